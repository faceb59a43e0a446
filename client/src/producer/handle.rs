//! What `send` returns: the way to one record's acknowledgement.
//!
//! ```text
//!   Waiting ── room ──> Placed ── the batch's outcome ──> Ack or SendError
//! ```
//!
//! All records of a batch share one [`BatchOutcome`]; a handle is a reference to it and a number.
//!
//! Absent on purpose: cancelling. A record that is in a batch goes with it.

use crate::error::SendError;
use crate::record::{Ack, Durability};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// What became of a batch, for all who wait for one of its records.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    state: Mutex<OutcomeState>,
}

#[derive(Debug)]
enum OutcomeState {
    Pending(Vec<Waker>),
    Done(Result<BatchAck, SendError>),
}

impl Default for OutcomeState {
    fn default() -> Self {
        Self::Pending(Vec::new())
    }
}

/// The acknowledgement of a whole batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchAck {
    pub partition: i32,
    pub base_offset: i64,
    pub durability: Durability,
    pub replicas: u32,
    pub duplicate: bool,
}

impl BatchOutcome {
    /// Settles it; only the first call counts. Wakes whoever waits. Returns whether it was first.
    pub fn settle(&self, outcome: Result<BatchAck, SendError>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let OutcomeState::Pending(wakers) = &mut *state else { return false };
        let wakers = mem::take(wakers);
        *state = OutcomeState::Done(outcome);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    pub fn is_settled(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*state, OutcomeState::Done(_))
    }

    fn poll(
        &self,
        slot: &mut Option<usize>,
        context: &Context<'_>,
    ) -> Poll<Result<BatchAck, SendError>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            OutcomeState::Done(outcome) => Poll::Ready(outcome.clone()),
            OutcomeState::Pending(wakers) => {
                match slot.and_then(|slot| wakers.get_mut(slot)) {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => {
                        *slot = Some(wakers.len());
                        wakers.push(context.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}

/// A record's place in a batch.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub outcome: Arc<BatchOutcome>,
    pub index: u32,
    slot: Option<usize>,
}

impl Ticket {
    pub const fn new(outcome: Arc<BatchOutcome>, index: u32) -> Self {
        Self { outcome, index, slot: None }
    }

    /// Waits until the batch is settled.
    pub async fn settled(mut self) -> Result<Ack, SendError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Ack, SendError>> {
        let outcome = std::task::ready!(self.outcome.poll(&mut self.slot, context));
        Poll::Ready(outcome.map(|ack| Ack {
            partition: ack.partition,
            offset: ack.base_offset.saturating_add(i64::from(self.index)),
            durability: ack.durability,
            replicas: ack.replicas,
            duplicate: ack.duplicate,
        }))
    }
}

pub(crate) type Placing = Pin<Box<dyn Future<Output = Result<Ticket, SendError>> + Send>>;

enum State {
    Waiting(Placing),
    Placed(Ticket),
    Failed(SendError),
    Over,
}

/// A record on its way. Await it for the [`Ack`]; or drop it, and [`crate::Producer::flush`] later.
///
/// Where the producer's buffer has room, the record is in it when `send` returns, and dropping the
/// handle leaves it there. Where it has none, the handle holds the record until it is polled and
/// room is there: await it, or [`SendHandle::queued`]. A handle that is dropped before has not
/// sent its record, which the next `flush` or `close` reports.
///
/// Cancel-safe: a record in the buffer stays there.
#[must_use = "await the acknowledgement, or `queued` for room in the buffer"]
pub struct SendHandle {
    state: State,
}

impl fmt::Debug for SendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waiting for room",
            State::Placed(_) => "in a batch",
            State::Failed(_) => "failed",
            State::Over => "over",
        };
        f.debug_struct("SendHandle").field("state", &state).finish()
    }
}

impl SendHandle {
    pub(crate) const fn placed(ticket: Ticket) -> Self {
        Self { state: State::Placed(ticket) }
    }

    pub(crate) const fn waiting(placing: Placing) -> Self {
        Self { state: State::Waiting(placing) }
    }

    /// A handle whose record never gets to a batch: for errors before it.
    pub const fn failed(error: SendError) -> Self {
        Self { state: State::Failed(error) }
    }

    /// Waits until the record is in the buffer, and no longer: the way to send many.
    ///
    /// ```
    /// # bateau_testing::private::run_with_broker(|broker| async move {
    /// # let client = broker.client().await.expect("the broker lets clients in");
    /// # let producer = client.producer("orders");
    /// for number in 0..1_000 {
    ///     let record = format!("order {number}");
    ///     drop(producer.send(record).queued().await?);
    /// }
    /// producer.flush().await?;
    /// # Ok::<_, bateau_client::Error>(())
    /// # })
    /// # .expect("the example works");
    /// ```
    ///
    /// # Errors
    /// [`SendError`]: the record is not in the buffer, and not written.
    ///
    /// Cancel-safe: a record that is not in the buffer yet is not sent, and counted as such.
    pub async fn queued(mut self) -> Result<Self, SendError> {
        // Gives the connection's tasks their turn on a runtime with one thread.
        tokio::task::coop::consume_budget().await;
        match mem::replace(&mut self.state, State::Over) {
            State::Waiting(placing) => Ok(Self::placed(placing.await?)),
            State::Failed(error) => Err(error),
            state => Ok(Self { state }),
        }
    }

    /// Whether awaiting the acknowledgement would not wait.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Waiting(_) => false,
            State::Placed(ticket) => ticket.outcome.is_settled(),
            State::Failed(_) | State::Over => true,
        }
    }
}

impl Future for SendHandle {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.state {
                State::Waiting(placing) => {
                    match std::task::ready!(placing.as_mut().poll(context)) {
                        Ok(ticket) => self.state = State::Placed(ticket),
                        Err(error) => self.state = State::Failed(error),
                    }
                }
                State::Placed(ticket) => {
                    let outcome = std::task::ready!(ticket.poll(context));
                    self.state = State::Over;
                    return Poll::Ready(outcome);
                }
                State::Failed(_) => {
                    if let State::Failed(error) = mem::replace(&mut self.state, State::Over) {
                        return Poll::Ready(Err(error));
                    }
                }
                // A future that is polled after its end has no meaning; this one says so.
                State::Over => return Poll::Ready(Err(SendError::Closed)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack() -> BatchAck {
        let durability = Durability::Flushed;
        BatchAck { partition: 3, base_offset: 40, durability, replicas: 1, duplicate: false }
    }

    #[tokio::test]
    async fn every_record_of_a_batch_learns_its_own_offset() {
        let outcome = Arc::new(BatchOutcome::default());
        let handle = |index| SendHandle::placed(Ticket::new(Arc::clone(&outcome), index));
        let (first, third) = (handle(0), handle(2));
        let waiting = tokio::spawn(third);
        tokio::task::yield_now().await;
        assert!(outcome.settle(Ok(ack())));
        assert!(!outcome.settle(Err(SendError::Closed)), "the first outcome counts");
        assert_eq!(first.await.map(|ack| ack.offset), Ok(40));
        assert_eq!(waiting.await.expect("it does not panic").map(|ack| ack.offset), Ok(42));
    }

    #[tokio::test]
    async fn a_record_that_waits_for_room_is_placed_when_it_is_awaited() {
        let outcome = Arc::new(BatchOutcome::default());
        outcome.settle(Ok(ack()));
        let ticket = Ticket::new(outcome, 1);
        let handle = SendHandle::waiting(Box::pin(async move { Ok(ticket) }));
        assert!(!handle.is_done());
        let handle = handle.queued().await.expect("there is room");
        assert_eq!(handle.await.map(|ack| ack.offset), Ok(41));
    }
}
