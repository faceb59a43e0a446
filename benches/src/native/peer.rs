//! A connection to a native door: control stream, data and bulk streams, one call at a time.
//!
//! Absent on purpose: pipelining (`replay`), retries, versions other than this build's.

use super::ends::{Door, dial, dialer, hang_up};
use crate::client::{ANSWER_WAIT, CLIENT_ID};
use crate::failure::{Failure, accepted};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    Auth, Call, CreateTopicsRequest, DeleteTopicsRequest, ErrorReply, FetchRequest,
    FindOffsetsRequest, Frame, Hello, Kind, MetadataRequest, NewTopic, OpenStream, Position,
    Request, Split, StreamRole, SubscribeRequest, TopicName, VERSION_MAX, VERSION_MIN, frame,
};
use bateau_protocol::record::Batches;
use bateau_protocol::wire::ErrorCode;
use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use std::time::Instant;
use tokio::time::timeout;

/// Longest frame that is taken.
const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What one fetch brings at most, its first batch excepted.
const FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;

/// Timestamp that stands for the end of a partition.
const LATEST: i64 = -1;

/// The reading half of a stream.
#[derive(Debug)]
pub struct Frames {
    receive: RecvStream,
    received: BytesMut,
}

impl Frames {
    /// Frames of a stream from its start.
    #[must_use]
    pub fn new(receive: RecvStream) -> Self {
        Self { receive, received: BytesMut::new() }
    }

    /// The next frame, if all of it has been received.
    ///
    /// # Errors
    /// A length that no frame has.
    pub fn buffered(&mut self) -> Result<Option<Frame>, Failure> {
        match Frame::split(&mut self.received, FRAME_BYTES_MAX)? {
            Split::Frame(frame) => Ok(Some(frame)),
            Split::Incomplete { .. } => Ok(None),
        }
    }

    /// Receives more.
    ///
    /// # Errors
    /// The stream or its connection ended.
    pub async fn fill(&mut self) -> Result<(), Failure> {
        let what = "receiving frames";
        let chunk = self.receive.read_chunk(usize::MAX, true).await;
        match chunk.map_err(|error| Failure::quic(what, error))? {
            Some(chunk) => self.received.extend_from_slice(&chunk.bytes),
            None => return Err(Failure::unexpected(what, "end of stream", "a frame")),
        }
        Ok(())
    }

    /// The next frame, awaited.
    ///
    /// # Errors
    /// The stream or its connection ended, or there was silence for too long.
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let waited = timeout(ANSWER_WAIT, self.fill()).await;
            waited.map_err(|_| Failure::quic("receiving a frame", "silence"))??;
        }
    }
}

/// A bidirectional stream of frames.
#[derive(Debug)]
pub struct Stream {
    /// The writing half.
    pub send: SendStream,
    /// The reading half.
    pub frames: Frames,
    correlation: u32,
}

impl Stream {
    /// Opens a stream without saying a word.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn open(connection: &Connection) -> Result<Self, Failure> {
        let opened = connection.open_bi().await;
        let (send, receive) = opened.map_err(|error| Failure::quic("opening a stream", error))?;
        Ok(Self { send, frames: Frames::new(receive), correlation: 0 })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The stream or its connection ended.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let written = self.send.write_chunk(bytes).await;
        written.map_err(|error| Failure::quic("sending frames", error))
    }

    /// Sends a request, and gives its correlation.
    ///
    /// # Errors
    /// The stream or its connection ended.
    pub async fn tell(&mut self, request: impl Into<Request>) -> Result<u32, Failure> {
        self.correlation += 1;
        self.tell_as(self.correlation, request).await?;
        Ok(self.correlation)
    }

    /// Sends a request with a correlation of choice: that of a subscription.
    ///
    /// # Errors
    /// The stream or its connection ended.
    pub async fn tell_as(
        &mut self,
        correlation: u32,
        request: impl Into<Request>,
    ) -> Result<(), Failure> {
        let frame = request.into().encode(correlation, VERSION_MAX)?;
        self.write(frame.to_bytes()).await
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection ended, or the answer is an error or none.
    pub async fn call<C: Call>(&mut self, request: C) -> Result<C::Answer, Failure> {
        let correlation = self.tell(request).await?;
        let answer = self.frames.next().await?;
        if answer.correlation != correlation {
            return Err(Failure::unexpected("correlation", answer.correlation, correlation));
        }
        answer_of::<C>(answer)
    }

    /// Opens a subscription to partition 0 of a topic; the correlation names it from here on.
    ///
    /// # Errors
    /// The connection ended, or the broker refuses.
    pub async fn subscribe(
        &mut self,
        topic_id: TopicId,
        offset: i64,
        credit_bytes: u64,
    ) -> Result<u32, Failure> {
        let leader_epoch = -1;
        let partition = 0;
        let request = SubscribeRequest { topic_id, partition, offset, credit_bytes, leader_epoch };
        self.call(request).await?;
        Ok(self.correlation)
    }
}

/// The answer in a frame.
///
/// # Errors
/// An error, or a frame of another kind.
pub fn answer_of<C: Call>(frame: Frame) -> Result<C::Answer, Failure> {
    if frame.kind == C::KIND.answer() {
        return Ok(frame::decode(frame.body, VERSION_MAX)?);
    }
    if frame.kind == Kind::ERROR {
        let ErrorReply { code, message, .. } = frame::decode(frame.body, VERSION_MAX)?;
        let what = format!("{}: {message}", C::KIND);
        return Err(Failure::Refused { what, code });
    }
    Err(Failure::unexpected("kind of an answer", frame.kind, C::KIND.answer()))
}

/// A connection that has been welcomed.
#[derive(Debug)]
pub struct Peer {
    pub(super) endpoint: Endpoint,
    /// For further streams, and for what QUIC counts.
    pub connection: Connection,
    /// The first stream.
    pub control: Stream,
}

/// The greeting of a well-behaved client.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        client_name: CLIENT_ID.into(),
        auth: Auth::default(),
    }
}

impl Peer {
    /// Connects and greets. To be called inside of a runtime.
    ///
    /// # Errors
    /// Nobody listens there, with another key, or speaking another version.
    pub async fn connect(door: Door) -> Result<Self, Failure> {
        let endpoint = dialer(door.pin)?;
        let connection = dial(&endpoint, door.address).await?;
        let mut control = Stream::open(&connection).await?;
        let welcome = control.call(hello()).await?;
        if welcome.version != VERSION_MAX {
            return Err(Failure::unexpected("version", welcome.version, VERSION_MAX));
        }
        Ok(Self { endpoint, connection, control })
    }

    /// Says that nothing more will be said.
    pub async fn close(self) {
        hang_up(&self.endpoint, &self.connection).await;
    }

    /// Opens a stream for a role.
    ///
    /// # Errors
    /// The connection ended, or the role is refused.
    pub async fn open(&self, role: StreamRole) -> Result<Stream, Failure> {
        let mut stream = Stream::open(&self.connection).await?;
        stream.call(OpenStream { role: role.number() }).await?;
        Ok(stream)
    }

    /// Makes a topic of one partition and waits until that has a leader.
    ///
    /// # Errors
    /// It exists, the broker refuses, or no leader appears in time.
    pub async fn create_topic(&mut self, name: &str) -> Result<TopicId, Failure> {
        let topic = NewTopic { name: name.to_owned().into(), partitions: 1, ..NewTopic::default() };
        let request =
            CreateTopicsRequest { topics: vec![topic], validate_only: false, timeout_ms: 30_000 };
        for outcome in self.control.call(request).await?.topics {
            accepted(outcome.error_code, || format!("creating topic {name}"))?;
        }
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let named = TopicName { name: name.to_owned().into(), ..TopicName::default() };
            let request = MetadataRequest { topics: Some(vec![named]), auto_create: false };
            let answer = self.control.call(request).await?;
            let ready = answer.topics.iter().find(|topic| {
                let led = topic.partitions.iter().all(|partition| partition.leader_id >= 0);
                topic.error_code == ErrorCode::NONE && led && !topic.partitions.is_empty()
            });
            if let Some(topic) = ready {
                return Ok(topic.id);
            }
            if Instant::now() > deadline {
                let found = format!("{:?}", answer.topics);
                return Err(Failure::unexpected("metadata of a topic", found, "a leader"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        let request =
            DeleteTopicsRequest { names: vec![name.to_owned().into()], timeout_ms: 30_000 };
        for outcome in self.control.call(request).await?.topics {
            accepted(outcome.error_code, || format!("deleting topic {name}"))?;
        }
        Ok(())
    }

    /// Where partition 0 of a topic ends.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn end_of(&mut self, topic_id: TopicId) -> Result<i64, Failure> {
        let position = Position { topic_id, partition: 0, timestamp: LATEST };
        let request = FindOffsetsRequest { positions: vec![position] };
        let answer = self.control.call(request).await?;
        let found = answer.offsets.first();
        let found = found.ok_or_else(|| Failure::unexpected("FindOffsets", "nothing", 1))?;
        accepted(found.error_code, || "end of a topic".to_owned())?;
        Ok(found.offset)
    }

    /// Checks that a topic holds as many records as were acknowledged.
    ///
    /// # Errors
    /// Another count, or the broker refuses.
    pub async fn expect_records(&mut self, id: TopicId, expected: u64) -> Result<(), Failure> {
        let found = self.end_of(id).await?;
        if u64::try_from(found) == Ok(expected) {
            return Ok(());
        }
        Err(Failure::unexpected("records of a topic", found, expected))
    }

    /// All batches of partition 0, in order and as a client sends them; all of them in memory.
    ///
    /// # Errors
    /// The broker refuses, or an answer has no batch.
    pub async fn batches(&mut self, topic_id: TopicId) -> Result<Vec<(Bytes, u32)>, Failure> {
        let end = self.end_of(topic_id).await?;
        let mut bulk = self.open(StreamRole::Bulk).await?;
        let (mut batches, mut offset) = (Vec::new(), 0);
        while offset < end {
            let request = FetchRequest {
                topic_id,
                partition: 0,
                offset,
                bytes_max: FETCH_BYTES_MAX,
                bytes_min: 1,
                wait_ms: 1_000,
                ..FetchRequest::default()
            };
            let records = bulk.call(request).await?.records.to_bytes();
            let before = offset;
            for batch in Batches::new(records) {
                let batch = batch?;
                let count = batch.header().record_count;
                offset = batch.header().base_offset + i64::from(count);
                batches.push((as_sent(batch.bytes()), u32::try_from(count).unwrap_or(0)));
            }
            if offset == before {
                return Err(Failure::unexpected("batches in an answer", 0, "1 or more"));
            }
        }
        Ok(batches)
    }
}

/// A batch as its producer sent it: what a broker writes into it is its base offset, which its
/// checksum does not cover.
fn as_sent(batch: &[u8]) -> Bytes {
    let offset = [0; size_of::<i64>()];
    [&offset, batch.get(offset.len()..).unwrap_or_default()].concat().into()
}
