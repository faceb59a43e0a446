//! The bytes of subscriptions and assignments, versions 0 to 3.
//!
//! ```text
//!   subscription  version i16 | topics [string] | user data bytes, -1 = null
//!                 1: owned [topic string, [partition i32]]   2: generation i32   3: rack string
//!   assignment    version i16 | assigned [topic string, [partition i32]] | user data bytes
//! ```
//!
//! Numbers are big-endian; strings have a length of 16 bits, arrays and bytes one of 32.
//!
//! Invariants
//! - A newer version is read as the newest that is known, and bytes behind it are ignored: Kafka
//!   promises that versions only append.
//! - Fields that are missing at the end are absent, whatever the version says: some clients send
//!   version 1 without owned partitions.
//! - A count reserves no memory before its elements are there.
//!
//! Absent on purpose: other embedded protocols, such as Kafka Connect's.

use bytes::Bytes;

use super::{PartitionsByTopic, TopicPartition};

/// The protocol type of consumers in JoinGroup.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The newest version that is known.
pub const VERSION_MAX: i16 = 3;

/// The field's way to say that there is no generation.
const NO_GENERATION: i32 = -1;

/// Why a member's bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes end inside a field.
    #[error("ends inside {field}, {needed} bytes are missing")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Bytes that are missing.
        needed: usize,
    },
    /// A negative version.
    #[error("has version {found}, expected 0 or more")]
    Version {
        /// What was there.
        found: i16,
    },
    /// A negative length where none is allowed.
    #[error("{field} has length {found}, expected 0 or more")]
    Length {
        /// The field.
        field: &'static str,
        /// What was there.
        found: i32,
    },
    /// Bytes that are no UTF-8.
    #[error("{field} is no UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
}

/// What a member tells the leader when it joins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subscription {
    /// Topics that it wants.
    pub topics: Vec<String>,
    /// The assignor's own; `None` is null.
    pub user_data: Option<Bytes>,
    /// Partitions that it has and does not give up before it is asked to (KIP-429).
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them (KIP-792).
    pub generation: Option<i32>,
    /// Where it runs (KIP-881). Carried, and not used.
    pub rack: Option<String>,
}

impl Subscription {
    /// Reads what a member sent.
    ///
    /// Errors: [`ProtocolError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, ProtocolError> {
        let mut reader = Reader { rest: bytes };
        let version = reader.version()?;
        let mut subscription = Self {
            topics: reader.array("topics", |reader| reader.text("a topic"))?,
            user_data: reader.nullable_bytes("user data")?.map(|part| bytes.slice_ref(part)),
            ..Self::default()
        };
        if version >= 1 && !reader.rest.is_empty() {
            subscription.owned = reader.partitions("owned partitions")?;
        }
        if version >= 2 && !reader.rest.is_empty() {
            let generation = reader.i32("the generation")?;
            subscription.generation = (generation >= 0).then_some(generation);
        }
        if version >= 3 && !reader.rest.is_empty() {
            let rack = reader.nullable_text("the rack")?;
            subscription.rack = rack.filter(|rack| !rack.is_empty());
        }
        Ok(subscription)
    }

    /// The bytes in `version`, 0 to 3; a higher one is taken for the highest. What
    /// the version does not have is left out. Topics keep their order, owned partitions are
    /// sorted.
    #[must_use]
    pub fn encode(&self, version: i16) -> Bytes {
        let version = version.clamp(0, VERSION_MAX);
        let mut writer = Writer::new(version);
        writer.length(self.topics.len());
        for topic in &self.topics {
            writer.text(topic);
        }
        writer.nullable_bytes(self.user_data.as_deref());
        if version >= 1 {
            writer.partitions(&by_topic(self.owned.iter().cloned()));
        }
        if version >= 2 {
            writer.i32(self.generation.unwrap_or(NO_GENERATION));
        }
        if version >= 3 {
            match &self.rack {
                Some(rack) => writer.text(rack),
                None => writer.i16(-1),
            }
        }
        writer.out.into()
    }
}

/// What the leader tells a member.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assignment {
    /// The member's partitions from now on.
    pub partitions: PartitionsByTopic,
    /// The assignor's own; `None` is null.
    pub user_data: Option<Bytes>,
}

impl Assignment {
    /// Reads what the leader sent. No bytes at all are an assignment of nothing: kafkajs' leaders
    /// leave out members for whom nothing is left.
    ///
    /// Errors: [`ProtocolError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, ProtocolError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader { rest: bytes };
        reader.version()?;
        let partitions = by_topic(reader.partitions("assigned partitions")?);
        let mut user_data = None;
        if !reader.rest.is_empty() {
            let part = reader.nullable_bytes("user data")?;
            user_data = part.map(|part| bytes.slice_ref(part));
        }
        Ok(Self { partitions, user_data })
    }

    /// The bytes in `version`. All versions have the same fields.
    #[must_use]
    pub fn encode(&self, version: i16) -> Bytes {
        let mut writer = Writer::new(version.clamp(0, VERSION_MAX));
        writer.partitions(&self.partitions);
        writer.nullable_bytes(self.user_data.as_deref());
        writer.out.into()
    }
}

/// Grouped and sorted, without doubles.
pub(super) fn by_topic(partitions: impl IntoIterator<Item = TopicPartition>) -> PartitionsByTopic {
    let mut grouped = PartitionsByTopic::new();
    for TopicPartition { topic, partition } in partitions {
        grouped.entry(topic).or_default().push(partition);
    }
    for numbers in grouped.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    grouped
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], ProtocolError> {
        let needed = count.saturating_sub(self.rest.len());
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(ProtocolError::Truncated { field, needed })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ProtocolError> {
        let taken = self.take(N, field)?;
        taken.try_into().map_err(|_| ProtocolError::Truncated { field, needed: N })
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, ProtocolError> {
        self.array_of(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, ProtocolError> {
        self.array_of(field).map(i32::from_be_bytes)
    }

    fn version(&mut self) -> Result<i16, ProtocolError> {
        let found = self.i16("the version")?;
        if found < 0 { Err(ProtocolError::Version { found }) } else { Ok(found) }
    }

    fn text(&mut self, field: &'static str) -> Result<String, ProtocolError> {
        let missing = ProtocolError::Length { field, found: -1 };
        self.nullable_text(field)?.ok_or(missing)
    }

    fn nullable_text(&mut self, field: &'static str) -> Result<Option<String>, ProtocolError> {
        let found = self.i16(field)?;
        if found == -1 {
            return Ok(None);
        }
        let found = i32::from(found);
        let length = usize::try_from(found).map_err(|_| ProtocolError::Length { field, found })?;
        let text = std::str::from_utf8(self.take(length, field)?);
        text.map(|text| Some(text.to_owned())).map_err(|_| ProtocolError::Text { field })
    }

    fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, ProtocolError> {
        let found = self.i32(field)?;
        if found == -1 {
            return Ok(None);
        }
        let length = usize::try_from(found).map_err(|_| ProtocolError::Length { field, found })?;
        self.take(length, field).map(Some)
    }

    fn array<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let found = self.i32(field)?;
        let count = usize::try_from(found).map_err(|_| ProtocolError::Length { field, found })?;
        // Grows as elements are read: each takes bytes, so a lying count ends with the input.
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    fn partitions(&mut self, field: &'static str) -> Result<Vec<TopicPartition>, ProtocolError> {
        let topics = self.array(field, |reader| {
            let topic = reader.text(field)?;
            Ok((topic, reader.array(field, |reader| reader.i32(field))?))
        })?;
        let flat = topics.into_iter().flat_map(|(topic, numbers)| {
            numbers
                .into_iter()
                .map(move |partition| TopicPartition { topic: topic.clone(), partition })
        });
        Ok(flat.collect())
    }
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn new(version: i16) -> Self {
        Self { out: version.to_be_bytes().to_vec() }
    }

    fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A frame holds far fewer than 2^31 of anything.
    fn length(&mut self, length: usize) {
        self.i32(i32::try_from(length).unwrap_or(i32::MAX));
    }

    /// Names of topics and racks have at most 249 bytes; what could not be sent is cut.
    fn text(&mut self, text: &str) {
        let end = text.floor_char_boundary(text.len().min(i16::MAX.unsigned_abs().into()));
        let bytes = text.as_bytes().get(..end).unwrap_or_default();
        self.i16(i16::try_from(bytes.len()).unwrap_or(i16::MAX));
        self.out.extend_from_slice(bytes);
    }

    fn nullable_bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.i32(-1),
            Some(bytes) => {
                self.length(bytes.len());
                self.out.extend_from_slice(bytes);
            }
        }
    }

    fn partitions(&mut self, by_topic: &PartitionsByTopic) {
        self.length(by_topic.len());
        for (topic, numbers) in by_topic {
            self.text(topic);
            self.length(numbers.len());
            for number in numbers {
                self.i32(*number);
            }
        }
    }
}
