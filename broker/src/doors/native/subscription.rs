//! Credits: which subscription of a connection may send, and how much.
//!
//! ```text
//!            wake              next ─> settle
//!   Quiet ────────> InRing ──────────> Taken ──(sent, has more)──> InRing
//!     ▲                ▲                 ├──(nothing there)──────> Quiet
//!     └────────────────│─────────────────┘
//!                      │   credit        ├──(too large)──> ForCredit, or Alone in a queue
//!                      └─────────────────┴─────────────────────┘
//! ```
//!
//! A subscription's credit is cumulative. `granted − sent`, where that is positive, is what it has
//! *outstanding*; `sent − granted`, where that is, its *debt*.
//!
//! Invariants
//! - `I-CREDIT-1` All that a connection has outstanding is at most the limit: a client that grants
//!   more is closed.
//! - `I-CREDIT-2` At most one subscription of a stream has a debt, of less than one batch.
//! - Whoever has credit and something to send gets its turn, as long as the client
//!   reads the stream: rings turn, and the queue for the debt is first in, first out. The debt
//!   itself ends with the next credit, which a client owes for what it has received.
//!
//! Streams share nothing but the sum of what is outstanding, so one that is not read holds up no
//! other one.
//!
//! Absent on purpose: batches, logs, streams' own flow control, clocks.

use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// Bytes that a subscription sends before it is the next one's turn.
const TURN_BYTES_MAX: u64 = 256 * 1024;

/// A subscription of one connection; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SubscriptionId(u64);

/// Where a subscription is heard: its stream and the correlation of its frames.
pub type Address<S> = (S, u32);

/// Why a subscription is not opened, or a credit not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CreditError {
    /// As many as a connection may have.
    #[error("the connection has {subscriptions_max} subscriptions, which is the limit")]
    TooMany {
        /// The limit.
        subscriptions_max: usize,
    },
    /// The stream has one with this correlation.
    #[error("the stream has a subscription with this correlation")]
    Taken,
    /// More than the connection may have outstanding. Close it.
    #[error("{found} bytes of credit would be outstanding, {credit_bytes_max} are the limit")]
    Overdrawn {
        /// What all subscriptions would have outstanding.
        found: u64,
        /// The limit.
        credit_bytes_max: u64,
    },
}

/// A subscription's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Whose.
    pub id: SubscriptionId,
    /// Bytes to send at most, except that a first batch may be larger: that one is to be
    /// [offered](Subscriptions::offer).
    pub bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing to send is known.
    Quiet,
    InRing,
    /// Somebody looks for something to send.
    Taken,
    /// Nothing can be sent before so much credit is left.
    ForCredit {
        bytes: u64,
    },
    /// As `ForCredit`, and queued for the debt.
    Alone {
        bytes: u64,
    },
}

#[derive(Debug)]
struct Entry<S> {
    address: Address<S>,
    granted: u64,
    sent: u64,
    state: State,
}

impl<S> Entry<S> {
    fn left(&self) -> u64 {
        self.granted.saturating_sub(self.sent)
    }
}

/// What the subscriptions of one stream share.
#[derive(Debug, Default)]
struct Line {
    /// Who may have something to send and has credit.
    ring: VecDeque<SubscriptionId>,
    /// Who waits for the debt. All have credit, too little for their next batch.
    alone: VecDeque<SubscriptionId>,
    indebted: Option<SubscriptionId>,
}

/// All subscriptions of a connection. `S` names its streams.
#[derive(Debug)]
pub struct Subscriptions<S> {
    subscriptions_max: usize,
    credit_bytes_max: u64,
    entries: BTreeMap<SubscriptionId, Entry<S>>,
    addresses: BTreeMap<Address<S>, SubscriptionId>,
    lines: BTreeMap<S, Line>,
    /// Sum over all entries of what is outstanding.
    outstanding: u64,
    next_id: u64,
}

impl<S: Copy + Ord> Subscriptions<S> {
    /// None yet.
    pub fn new(subscriptions_max: usize, credit_bytes_max: u64) -> Self {
        Self {
            subscriptions_max,
            credit_bytes_max,
            entries: BTreeMap::new(),
            addresses: BTreeMap::new(),
            lines: BTreeMap::new(),
            outstanding: 0,
            next_id: 0,
        }
    }

    /// Opens a subscription, as one that may have something to send.
    ///
    /// Errors: [`CreditError`].
    pub fn open(
        &mut self,
        address: Address<S>,
        credit_bytes: u64,
    ) -> Result<SubscriptionId, CreditError> {
        if self.addresses.contains_key(&address) {
            return Err(CreditError::Taken);
        }
        if self.entries.len() >= self.subscriptions_max {
            let subscriptions_max = self.subscriptions_max;
            return Err(CreditError::TooMany { subscriptions_max });
        }
        self.raise(credit_bytes)?;
        let id = SubscriptionId(self.next_id);
        self.next_id += 1;
        let state = State::ForCredit { bytes: 1 };
        self.entries.insert(id, Entry { address, granted: credit_bytes, sent: 0, state });
        self.addresses.insert(address, id);
        self.look_again(id);
        Ok(id)
    }

    /// The subscription at an address.
    pub fn find(&self, address: Address<S>) -> Option<SubscriptionId> {
        self.addresses.get(&address).copied()
    }

    /// Where a subscription is heard.
    pub fn address(&self, id: SubscriptionId) -> Option<Address<S>> {
        self.entries.get(&id).map(|entry| entry.address)
    }

    /// Raises a subscription's credit. One that is gone, or a smaller credit than before, changes
    /// nothing.
    ///
    /// Errors: [`CreditError::Overdrawn`].
    pub fn grant(&mut self, id: SubscriptionId, credit_bytes: u64) -> Result<(), CreditError> {
        let Some(entry) = self.entries.get(&id) else { return Ok(()) };
        if credit_bytes <= entry.granted {
            return Ok(());
        }
        let more = credit_bytes.saturating_sub(entry.sent) - entry.left();
        self.raise(more)?;
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(()) };
        entry.granted = credit_bytes;
        let (is_paid, stream) = (entry.granted >= entry.sent, entry.address.0);
        if is_paid && let Some(line) = self.lines.get_mut(&stream) {
            line.indebted.take_if(|indebted| *indebted == id);
        }
        self.look_again(id);
        self.call_next_alone(stream);
        Ok(())
    }

    fn raise(&mut self, more: u64) -> Result<(), CreditError> {
        let found = self.outstanding.saturating_add(more);
        let credit_bytes_max = self.credit_bytes_max;
        if found > credit_bytes_max {
            return Err(CreditError::Overdrawn { found, credit_bytes_max });
        }
        self.outstanding = found;
        Ok(())
    }

    /// There may be something to send now.
    pub fn wake(&mut self, id: SubscriptionId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.state == State::Quiet
        {
            entry.state = State::ForCredit { bytes: 1 };
            self.look_again(id);
        }
    }

    /// Who may send on this stream now, each in turn.
    pub fn next(&mut self, stream: S) -> Option<Turn> {
        let id = self.lines.get_mut(&stream)?.ring.pop_front()?;
        let entry = self.entries.get_mut(&id)?;
        entry.state = State::Taken;
        let bytes_max = usize::try_from(entry.left().min(TURN_BYTES_MAX)).unwrap_or(usize::MAX);
        Some(Turn { id, bytes_max })
    }

    /// Whether a first batch above the turn's limit may be sent. If not, the turn is over, and
    /// the subscription gets another one once the batch may.
    pub fn offer(&mut self, id: SubscriptionId, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let line = self.lines.entry(entry.address.0).or_default();
        if bytes <= entry.left() {
            return true;
        }
        let is_first = line.alone.front().is_none_or(|front| *front == id);
        if entry.left() > 0 && line.indebted.is_none() && is_first {
            return true;
        }
        if entry.left() == 0 {
            entry.state = State::ForCredit { bytes: 1 };
            return false;
        }
        entry.state = State::Alone { bytes };
        if !line.alone.contains(&id) {
            line.alone.push_back(id);
        }
        false
    }

    /// The turn is over: so many bytes were sent, and there may be more to send.
    pub fn sent(&mut self, id: SubscriptionId, bytes: usize) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = entry.left();
        entry.sent = entry.sent.saturating_add(bytes as u64);
        self.outstanding = self.outstanding.saturating_sub(before - entry.left());
        let outstanding = self.outstanding;
        assert!(
            outstanding <= self.credit_bytes_max,
            "I-CREDIT-1: {outstanding} bytes are outstanding"
        );
        entry.state = State::ForCredit { bytes: 1 };
        let stream = entry.address.0;
        let line = self.lines.entry(stream).or_default();
        line.alone.retain(|other| *other != id);
        if entry.sent > entry.granted {
            assert!(line.indebted.is_none(), "I-CREDIT-2: a second subscription has a debt");
            line.indebted = Some(id);
        }
        self.look_again(id);
        self.call_next_alone(stream);
    }

    /// The turn is over: there is nothing to send before the next wake.
    pub fn found_nothing(&mut self, id: SubscriptionId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.state = State::Quiet;
        let stream = entry.address.0;
        if let Some(line) = self.lines.get_mut(&stream) {
            line.alone.retain(|other| *other != id);
        }
        self.call_next_alone(stream);
    }

    /// Whether a subscription has a turn before it, or is having it.
    pub fn is_due(&self, id: SubscriptionId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| matches!(entry.state, State::InRing | State::Taken))
    }

    /// Ends a subscription.
    pub fn close(&mut self, id: SubscriptionId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.addresses.remove(&entry.address);
        self.outstanding = self.outstanding.saturating_sub(entry.left());
        let stream = entry.address.0;
        if let Some(line) = self.lines.get_mut(&stream) {
            line.ring.retain(|other| *other != id);
            line.alone.retain(|other| *other != id);
            line.indebted.take_if(|indebted| *indebted == id);
        }
        self.call_next_alone(stream);
    }

    /// The subscriptions of a stream.
    pub fn of_stream(&self, stream: S) -> Vec<SubscriptionId> {
        let here = self.addresses.range((stream, 0)..=(stream, u32::MAX));
        here.map(|(_, id)| *id).collect()
    }

    /// Forgets a stream without subscriptions.
    pub fn forget_stream(&mut self, stream: S) {
        self.lines.remove(&stream);
    }

    /// All subscriptions.
    pub fn all(&self) -> Vec<SubscriptionId> {
        self.entries.keys().copied().collect()
    }

    /// Puts a subscription into its ring if what it waits for is there.
    fn look_again(&mut self, id: SubscriptionId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let (left, stream) = (entry.left(), entry.address.0);
        match entry.state {
            State::ForCredit { bytes } if left >= bytes => {}
            State::Alone { bytes } if left >= bytes => {
                if let Some(line) = self.lines.get_mut(&stream) {
                    line.alone.retain(|other| *other != id);
                }
            }
            _ => return,
        }
        self.enter_ring(id);
    }

    /// While a stream has no debt, whoever has waited longest for it may offer its batch again.
    fn call_next_alone(&mut self, stream: S) {
        let Some(line) = self.lines.get(&stream) else { return };
        if line.indebted.is_none()
            && let Some(first) = line.alone.front().copied()
        {
            self.enter_ring(first);
        }
    }

    fn enter_ring(&mut self, id: SubscriptionId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !matches!(entry.state, State::InRing | State::Taken)
        {
            entry.state = State::InRing;
            self.lines.entry(entry.address.0).or_default().ring.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests;
