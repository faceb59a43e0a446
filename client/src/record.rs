//! What is sent, and what came of it.
//!
//! Absent on purpose: types. A typed producer makes records, and a typed consumer reads them.

use crate::trace::{TRACEPARENT, TraceContext};
use bytes::Bytes;

/// One header of a record. Names may repeat; their order is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Mostly UTF-8, which Kafka does not enforce.
    pub name: Bytes,
    /// `None` is null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    #[must_use]
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }

    /// The name as text; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn name_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

/// A record to be sent.
///
/// ```
/// use bateau_client::Record;
///
/// let record = Record::new("paid").key("order-7").header("trace", "on");
/// assert_eq!(record.key.as_deref(), Some(&b"order-7"[..]));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Record {
    /// Records of one key go to one partition, the one that Kafka's clients choose too. Without a
    /// key the producer fills one partition after the other.
    pub key: Option<Bytes>,
    /// `None` is null: in a compacted topic it deletes the key.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Unix milliseconds; `None` is now.
    pub timestamp_ms: Option<i64>,
    /// `None` is by the key.
    pub partition: Option<i32>,
}

impl Record {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record that deletes its key in a compacted topic.
    #[must_use]
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// With this trace, as a `traceparent` header: what the consumer finds as
    /// [`Delivery::trace_context`](crate::consumer::Delivery::trace_context).
    ///
    /// ```
    /// use bateau_client::Record;
    /// use bateau_client::trace::TraceContext;
    ///
    /// let context = TraceContext::new([1; 16], [2; 8], true).expect("ids are not zero");
    /// let record = Record::new("paid").traced(&context);
    /// assert_eq!(record.headers[0].name, "traceparent");
    /// assert_eq!(TraceContext::parse(record.headers[0].value.as_deref().unwrap()), Some(context));
    /// ```
    #[must_use]
    pub fn traced(self, context: &TraceContext) -> Self {
        self.header(TRACEPARENT, context.to_header().to_vec())
    }

    /// With this time, in Unix milliseconds.
    #[must_use]
    pub const fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// To this partition, whatever the key.
    #[must_use]
    pub const fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

macro_rules! values {
    ($($type:ty),*) => {
        $(
            impl From<$type> for Record {
                fn from(value: $type) -> Self {
                    Self::new(value)
                }
            }
        )*
    };
}

values!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// What a broker has promised of its writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Durability {
    /// Flushed to the disks of a majority of the partition's replicas.
    Flushed,
    /// Kept in memory: it is gone with the process.
    Ephemeral,
}

impl Durability {
    /// As on the wire; unknown words of later brokers promise nothing.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        if text == "flushed" { Self::Flushed } else { Self::Ephemeral }
    }

    /// `flushed` or `ephemeral`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flushed => "flushed",
            Self::Ephemeral => "ephemeral",
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Ack {
    /// Where it went.
    pub partition: i32,
    /// Its position there.
    pub offset: i64,
    /// What the broker promises.
    pub durability: Durability,
    /// Replicas that held it, flushed, when this was said.
    pub replicas: u32,
    /// Whether the broker had it already: an earlier attempt had arrived.
    pub duplicate: bool,
}
