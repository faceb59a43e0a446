//! Request and reply over two topics, without I/O: which reply belongs to which request.
//!
//! ```text
//!   requester ── request, headers: correlation id, reply topic ──> topic ──> responder
//!       ^                                                                        │
//!       └── same correlation id ─────────────────────────── reply topic <────────┘
//! ```
//!
//! The headers are those of Spring's `ReplyingKafkaTemplate` and of Nest's `ClientKafka`, so that
//! either side may be one of them.
//!
//! Invariants
//! - A request ends once: with its reply, at its deadline, or by being given up.
//! - A reply that belongs to no open request is dropped: late, a double, or another requester's.
//! - The number of open requests is limited ([`OPEN_REQUESTS_MAX`]).
//! - Time and chance come from outside.
//!
//! Absent on purpose: the topics. A requester reads the reply topic from its end *before* it sends,
//! and a responder is an ordinary member of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use crate::record::Header;

/// Header with the id that a reply repeats.
pub const CORRELATION_ID: &str = "kafka_correlationId";

/// Header with the topic that the reply goes to.
pub const REPLY_TOPIC: &str = "kafka_replyTopic";

/// Header with the partition that the reply goes to, if the requester reads only one.
pub const REPLY_PARTITION: &str = "kafka_replyPartition";

/// Requests of one requester that may wait for their replies at once.
pub const OPEN_REQUESTS_MAX: usize = 10_000;

/// Bytes of a correlation id that a responder repeats.
pub const CORRELATION_BYTES_MAX: usize = 1_024;

/// The id of one request: 32 hex digits on the wire, because Nest reads headers as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CorrelationId(u128);

impl CorrelationId {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if bytes.len() != 32 || !bytes.iter().all(digits) {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How [`REPLY_PARTITION`] is written. Readers here understand both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PartitionForm {
    /// Four bytes, big-endian: Spring's.
    #[default]
    Binary,
    /// Digits: Nest's.
    Text,
}

/// Where replies are to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyAddress {
    /// The reply topic.
    pub topic: String,
    /// Its partition, if the requester reads only one.
    pub partition: Option<(i32, PartitionForm)>,
}

/// Too many requests wait for replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{OPEN_REQUESTS_MAX} requests wait for replies already; wait for some of them")]
pub struct TooManyRequests;

/// The open requests of one requester.
#[derive(Clone, Debug)]
pub struct Requests {
    reply_to: ReplyAddress,
    open: BTreeMap<CorrelationId, Instant>,
    deadlines: BTreeSet<(Instant, CorrelationId)>,
}

impl Requests {
    /// None is open yet.
    #[must_use]
    pub const fn new(reply_to: ReplyAddress) -> Self {
        Self { reply_to, open: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Opens a request: its id, and the headers to send with it.
    ///
    /// Errors: [`TooManyRequests`].
    pub fn open(
        &mut self,
        now: Instant,
        timeout: Duration,
        random: &mut Rng,
    ) -> Result<(CorrelationId, Vec<Header>), TooManyRequests> {
        if self.open.len() >= OPEN_REQUESTS_MAX {
            return Err(TooManyRequests);
        }
        let id = CorrelationId(random.u128(..));
        // A request without an end in sight ends within the day.
        let deadline =
            now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(24 * 3_600));
        self.open.insert(id, deadline);
        self.deadlines.insert((deadline, id));
        let mut headers = vec![
            Header::new(CORRELATION_ID, id.to_string()),
            Header::new(REPLY_TOPIC, self.reply_to.topic.clone()),
        ];
        match self.reply_to.partition {
            None => {}
            Some((number, PartitionForm::Binary)) => {
                headers.push(Header::new(REPLY_PARTITION, number.to_be_bytes().to_vec()));
            }
            Some((number, PartitionForm::Text)) => {
                headers.push(Header::new(REPLY_PARTITION, number.to_string()));
            }
        }
        Ok((id, headers))
    }

    /// A record of the reply topic: the request that it answers, which is closed by that. `None`
    /// for a reply to drop.
    pub fn handle_reply(&mut self, headers: &[Header]) -> Option<CorrelationId> {
        let id = CorrelationId::parse(last(headers, CORRELATION_ID)?)?;
        self.close(id).then_some(id)
    }

    /// Ends a request without a reply: its sender gave up, or it could not be sent. Says if it was
    /// open.
    pub fn close(&mut self, id: CorrelationId) -> bool {
        let Some(deadline) = self.open.remove(&id) else { return false };
        self.deadlines.remove(&(deadline, id));
        true
    }

    /// When [`Requests::drain_expired`] has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Closes the requests whose deadline has come, oldest first. Whether they had an effect is
    /// unknown.
    pub fn drain_expired(&mut self, now: Instant) -> Vec<CorrelationId> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, id));
            self.open.remove(&id);
            expired.push(id);
        }
        expired
    }

    /// Requests that wait for their replies.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
}

/// What a responder has to know of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    /// The reply topic.
    pub topic: String,
    /// The partition to write to; `None` leaves it to the producer.
    pub partition: Option<i32>,
    /// To be repeated as it came: other requesters have ids of other forms.
    pub correlation_id: Bytes,
}

impl ReplyTo {
    /// Reads a request's headers. `None` for a record that asks for no reply.
    #[must_use]
    pub fn from_headers(headers: &[Header]) -> Option<Self> {
        let topic = String::from_utf8(last(headers, REPLY_TOPIC)?.to_vec()).ok()?;
        let correlation_id = last(headers, CORRELATION_ID)?.clone();
        if topic.is_empty() || correlation_id.len() > CORRELATION_BYTES_MAX {
            return None;
        }
        let partition = last(headers, REPLY_PARTITION).and_then(|value| partition(value));
        Some(Self { topic, partition, correlation_id })
    }

    /// The header to send with the reply.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::new(CORRELATION_ID, self.correlation_id.clone())
    }
}

/// Digits, or four bytes. Four digits would be partition 808,464,432 or above as four bytes, which
/// no topic has.
fn partition(value: &[u8]) -> Option<i32> {
    let number = if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        std::str::from_utf8(value).ok()?.parse().ok()?
    } else {
        i32::from_be_bytes(value.try_into().ok()?)
    };
    (number >= 0).then_some(number)
}

fn last<'a>(headers: &'a [Header], name: &str) -> Option<&'a Bytes> {
    let header = headers.iter().rfind(|header| header.name == name.as_bytes())?;
    header.value.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn requests(partition: Option<(i32, PartitionForm)>) -> Requests {
        Requests::new(ReplyAddress { topic: "replies".to_owned(), partition })
    }

    fn reply(request: &[Header]) -> Vec<Header> {
        vec![ReplyTo::from_headers(request).expect("a request").header()]
    }

    #[test]
    fn a_reply_finds_its_request_once() {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        let mut requests = requests(None);
        let (first, headers) = requests.open(now, SECOND, &mut random).unwrap();
        let (second, _) = requests.open(now, SECOND, &mut random).unwrap();
        assert_ne!(first, second);
        let reply = reply(&headers);
        assert_eq!(requests.handle_reply(&reply), Some(first));
        assert_eq!(requests.handle_reply(&reply), None, "a double");
        assert_eq!(requests.open_count(), 1);
        assert!(requests.close(second) && !requests.close(second));
        assert_eq!(requests.next_deadline(), None);
    }

    #[test]
    fn a_reply_behind_the_deadline_is_dropped() {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        let mut requests = requests(None);
        let (late, headers) = requests.open(now, SECOND, &mut random).unwrap();
        let (open, _) = requests.open(now, 2 * SECOND, &mut random).unwrap();
        assert_eq!(requests.next_deadline(), Some(now + SECOND));
        assert_eq!(requests.drain_expired(now + SECOND / 2), []);
        assert_eq!(requests.drain_expired(now + SECOND), [late]);
        assert_eq!(requests.handle_reply(&reply(&headers)), None);
        assert_eq!(requests.drain_expired(now + 9 * SECOND), [open]);
    }

    #[test]
    fn replies_of_others_and_records_that_are_none_are_dropped() {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        let mut ours = requests(None);
        ours.open(now, SECOND, &mut random).unwrap();
        let (_, foreign) = requests(None).open(now, SECOND, &mut random).unwrap();
        assert_eq!(ours.handle_reply(&reply(&foreign)), None);
        assert_eq!(ours.handle_reply(&[]), None);
        for id in ["", "no hex", "+0000000000000000000000000000001"] {
            assert_eq!(ours.handle_reply(&[Header::new(CORRELATION_ID, id)]), None, "{id}");
        }
    }

    #[test]
    fn the_number_of_open_requests_is_limited() {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        let mut requests = requests(None);
        for _ in 0..OPEN_REQUESTS_MAX {
            requests.open(now, Duration::MAX, &mut random).unwrap();
        }
        let refused = requests.open(now, SECOND, &mut random);
        assert_eq!(refused.map(|(id, _)| id), Err(TooManyRequests));
    }

    #[test]
    fn a_responder_understands_spring_and_nest() {
        let now = Instant::now();
        for form in [PartitionForm::Binary, PartitionForm::Text] {
            let mut requests = requests(Some((12, form)));
            let (id, headers) = requests.open(now, SECOND, &mut Rng::with_seed(1)).unwrap();
            let found = ReplyTo::from_headers(&headers).unwrap();
            assert_eq!((found.topic.as_str(), found.partition), ("replies", Some(12)));
            assert_eq!(found.correlation_id, id.to_string());
        }
        // Spring's own ids are sixteen bytes that are no text.
        let id = Bytes::from_static(&[0xff; 16]);
        let mut headers = vec![
            Header::new(REPLY_TOPIC, "t"),
            Header::new(CORRELATION_ID, id.clone()),
            Header::new(REPLY_PARTITION, vec![0xff, 0xff, 0xff, 0xff]),
        ];
        let found = ReplyTo::from_headers(&headers).unwrap();
        assert_eq!((found.header().value, found.partition), (Some(id), None));
        headers.remove(0);
        assert_eq!(ReplyTo::from_headers(&headers), None, "asks for no reply");
    }
}
