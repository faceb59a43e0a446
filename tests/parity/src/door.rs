//! What can be asked through any door, in words that belong to none.

#![allow(async_fn_in_trait, reason = "two implementations, both here, on one runtime")]

use bateau_protocol::ids::TopicId;
use bateau_protocol::wire::ErrorCode;
use bytes::Bytes;

/// The protocol type of every group of the rows.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Their assignor.
pub const PROTOCOL: &str = "range";

/// An answer, or the code in its place.
pub type Answer<T> = Result<T, ErrorCode>;

/// Where the broker's doors are.
#[derive(Clone, Debug)]
pub struct Places {
    /// `host:port` of the Kafka door.
    pub kafka: String,
    /// `quic://host:port?pin=…` of the native door.
    pub native: String,
}

/// A batch that was appended, or had been.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Where the log starts.
    pub log_start: i64,
}

/// What a fetch found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// First offset that is not committed.
    pub high_watermark: i64,
    /// Where the log starts.
    pub log_start: i64,
    /// Whole batches.
    pub records: Bytes,
}

/// Who joins which group.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Empty for a new member.
    pub member: String,
    /// Set for a static member.
    pub instance: Option<String>,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// `consumer` and the like.
    pub protocol_type: String,
    /// Assignor and subscription, in order of preference.
    pub protocols: Vec<(String, Bytes)>,
}

/// The generation that a member is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The member.
    pub member: String,
    /// Who computes the assignment.
    pub leader: String,
    /// Rises with every rebalance.
    pub generation: i32,
    /// The assignor that won.
    pub protocol: String,
    /// Members and subscriptions; for the leader only.
    pub members: Vec<(String, Bytes)>,
}

/// A member of a generation, for everything behind the join.
#[derive(Clone, Debug)]
pub struct Member {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Its instance.
    pub instance: Option<String>,
    /// Its generation.
    pub generation: i32,
}

/// One connection through one door.
pub trait Door: Sized {
    /// What the door is called in `differences.txt`.
    const NAME: &'static str;

    /// Opens a connection.
    async fn connect(places: &Places) -> Self;

    /// Makes a topic.
    async fn create_topic(&mut self, name: &str, partitions: i32) -> Answer<TopicId>;

    /// Deletes a topic.
    async fn delete_topic(&mut self, name: &str) -> Answer<()>;

    /// A topic's id and its number of partitions.
    async fn topic(&mut self, name: &str) -> Answer<(TopicId, usize)>;

    /// Moves a partition to these nodes, or back; how many are being moved then.
    async fn reassign(
        &mut self,
        topic: &str,
        partition: i32,
        nodes: Option<Vec<i32>>,
    ) -> Answer<usize>;

    /// A fresh producer id.
    async fn producer_id(&mut self) -> Answer<(i64, i16)>;

    /// Appends a batch.
    async fn produce(&mut self, topic: TopicId, partition: i32, batch: Bytes) -> Answer<Appended>;

    /// Reads once, without waiting.
    async fn fetch(
        &mut self,
        topic: TopicId,
        partition: i32,
        offset: i64,
        leader_epoch: i32,
    ) -> Answer<Fetched>;

    /// Looks an offset up: offset and timestamp.
    async fn find_offset(
        &mut self,
        topic: (&str, TopicId),
        partition: i32,
        timestamp: i64,
    ) -> Answer<(i64, i64)>;

    /// Enters a group.
    async fn join(&mut self, join: &Join) -> Answer<Joined>;

    /// Hands in or waits for an assignment.
    async fn sync(&mut self, member: &Member, assignments: Vec<(String, Bytes)>) -> Answer<Bytes>;

    /// Stays a member.
    async fn heartbeat(&mut self, member: &Member) -> Answer<()>;

    /// Leaves.
    async fn leave(&mut self, member: &Member) -> Answer<()>;

    /// Stores a position.
    async fn commit(
        &mut self,
        member: &Member,
        topic: TopicId,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> Answer<()>;

    /// Reads a position: offset and metadata.
    async fn committed(
        &mut self,
        group: &str,
        topic: TopicId,
        partition: i32,
    ) -> Answer<(i64, String)>;
}
