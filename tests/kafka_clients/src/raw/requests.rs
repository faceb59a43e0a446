//! A valid request of every API at every version, and where its arrays begin.
//!
//! ```text
//!   APIS --> Api { key, versions, flexible_from, write } --> Api::request(version, context)
//!   Request { frame: header + body, counts: array counts within it }
//! ```
//!
//! Invariant: each request is one that Apache Kafka 4.3.1 answers (`reference/kafka`).
//! Absent on purpose: requests that change something which another test could see.

use std::sync::atomic::{AtomicI32, Ordering};

use super::batch::Batch;
use super::bytes::{ArrayCount, Writer};

/// One API of the Kafka door.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Its key.
    pub key: i16,
    /// Its name.
    pub name: &'static str,
    /// Lowest version that is advertised.
    pub lowest: i16,
    /// Lowest version that is served.
    pub lowest_served: i16,
    /// Highest version.
    pub highest: i16,
    /// First version with compact forms and tagged fields.
    pub flexible_from: i16,
    write: fn(&mut Writer, i16, &Context),
}

/// Names that requests mention.
#[derive(Clone, Debug)]
pub struct Context {
    /// A topic.
    pub topic: String,
    /// A topic id; nobody needs to know it.
    pub topic_id: [u8; 16],
    /// A group. A JoinGroup request makes its member wait for others, so each has its own.
    pub group: String,
}

impl Context {
    /// Names for one test; `topic` may exist.
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), topic_id: [7; 16], group: unique("group") }
    }
}

/// `prefix` with a number that this process uses once, and the process id: tests may run again
/// on the same broker.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An encoded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// API and version, for messages.
    pub name: String,
    /// Header and body, without the length.
    pub frame: Vec<u8>,
    /// Array counts within [`Request::frame`].
    pub counts: Vec<ArrayCount>,
    /// Whether its arrays are in compact form.
    pub flexible: bool,
    key: i16,
    correlation_id: i32,
}

impl Request {
    /// The answer's body.
    ///
    /// Panics when `frame` does not carry this request's correlation id.
    pub fn body_of_answer<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let expected = self.correlation_id.to_be_bytes();
        let body = frame.strip_prefix(&expected);
        let body = body.unwrap_or_else(|| panic!("{}: another's answer {frame:?}", self.name));
        // ApiVersions answers always begin as in version 0: its client knows no version yet.
        if self.flexible && self.key != API_VERSIONS { &body[1..] } else { body }
    }
}

/// Key of Produce.
pub const PRODUCE: i16 = 0;
/// Key of Fetch.
pub const FETCH: i16 = 1;
/// Key of ListOffsets.
pub const LIST_OFFSETS: i16 = 2;
/// Key of Metadata.
pub const METADATA: i16 = 3;
/// Key of OffsetCommit.
pub const OFFSET_COMMIT: i16 = 8;
/// Key of OffsetFetch.
pub const OFFSET_FETCH: i16 = 9;
/// Key of FindCoordinator.
pub const FIND_COORDINATOR: i16 = 10;
/// Key of JoinGroup.
pub const JOIN_GROUP: i16 = 11;
/// Key of Heartbeat.
pub const HEARTBEAT: i16 = 12;
/// Key of SyncGroup.
pub const SYNC_GROUP: i16 = 14;
/// Key of ApiVersions.
pub const API_VERSIONS: i16 = 18;
/// Key of CreateTopics.
pub const CREATE_TOPICS: i16 = 19;
/// Key of DeleteTopics.
pub const DELETE_TOPICS: i16 = 20;
/// Key of InitProducerId.
pub const INIT_PRODUCER_ID: i16 = 22;

impl Api {
    /// The request of this API at `version`: `write` fills in its body.
    pub fn request_with(&self, version: i16, write: impl FnOnce(&mut Writer)) -> Request {
        static NEXT: AtomicI32 = AtomicI32::new(1);
        let correlation_id = NEXT.fetch_add(1, Ordering::Relaxed);
        let flexible = version >= self.flexible_from;
        let mut writer = Writer::new(flexible);
        writer.int16(self.key).int16(version).int32(correlation_id);
        writer.classic_string(Some("raw")).tags();
        write(&mut writer);
        let name = format!("{} v{version}", self.name);
        let Writer { bytes: frame, counts, .. } = writer;
        Request { name, frame, counts, flexible, key: self.key, correlation_id }
    }

    /// A valid request at `version`.
    pub fn request(&self, version: i16, context: &Context) -> Request {
        self.request_with(version, |writer| {
            (self.write)(writer, version, context);
            writer.tags();
        })
    }

    /// Versions whose forms differ most: the lowest served, the last before and the first with
    /// compact forms, and the highest.
    pub fn telling_versions(&self) -> Vec<i16> {
        let all = [self.lowest_served, self.flexible_from - 1, self.flexible_from, self.highest];
        let mut versions: Vec<i16> =
            all.into_iter().filter(|v| (self.lowest_served..=self.highest).contains(v)).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

/// The API of this key, which must be in [`APIS`].
pub fn api(key: i16) -> &'static Api {
    APIS.iter().find(|api| api.key == key).expect("tests ask for keys of the table")
}

const fn row(
    key: i16,
    name: &'static str,
    versions: (i16, i16),
    flexible_from: i16,
    write: fn(&mut Writer, i16, &Context),
) -> Api {
    let (lowest, highest) = versions;
    Api { key, name, lowest, lowest_served: lowest, highest, flexible_from, write }
}

/// Every API that the Kafka door serves.
pub const APIS: [Api; 21] = [
    Api { lowest_served: 3, ..row(0, "Produce", (0, 13), 9, produce) },
    row(1, "Fetch", (4, 18), 12, fetch),
    row(2, "ListOffsets", (1, 11), 6, list_offsets),
    row(3, "Metadata", (0, 13), 9, metadata),
    row(8, "OffsetCommit", (2, 10), 8, offset_commit),
    row(9, "OffsetFetch", (1, 10), 6, offset_fetch),
    row(10, "FindCoordinator", (0, 6), 3, find_coordinator),
    row(11, "JoinGroup", (0, 9), 6, join_group),
    row(12, "Heartbeat", (0, 4), 4, heartbeat),
    row(13, "LeaveGroup", (0, 5), 4, leave_group),
    row(14, "SyncGroup", (0, 5), 4, sync_group),
    row(18, "ApiVersions", (0, 4), 3, api_versions),
    row(19, "CreateTopics", (2, 7), 5, create_topics),
    row(20, "DeleteTopics", (1, 6), 4, delete_topics),
    row(22, "InitProducerId", (0, 5), 2, init_producer_id),
    row(23, "OffsetForLeaderEpoch", (2, 4), 4, offset_for_leader_epoch),
    row(32, "DescribeConfigs", (1, 4), 4, describe_configs),
    row(43, "ElectLeaders", (0, 2), 2, elect_leaders),
    row(45, "AlterPartitionReassignments", (0, 1), 0, alter_partition_reassignments),
    row(46, "ListPartitionReassignments", (0, 0), 0, list_partition_reassignments),
    row(60, "DescribeCluster", (0, 2), 0, describe_cluster),
];

fn topic(writer: &mut Writer, by_id: bool, context: &Context) {
    if by_id {
        writer.raw(&context.topic_id);
    } else {
        writer.string(&context.topic);
    }
}

fn produce(writer: &mut Writer, version: i16, context: &Context) {
    writer.nullable_string(None).int16(-1).int32(5_000).array(1);
    topic(writer, version >= 13, context);
    writer.array(1).int32(0).byte_string(&Batch::of(&[b"valid"]).encode());
    writer.tags().tags();
}

fn fetch(writer: &mut Writer, version: i16, context: &Context) {
    if version <= 14 {
        writer.int32(-1);
    }
    writer.int32(0).int32(1).int32(1 << 20).int8(0);
    if version >= 7 {
        writer.int32(0).int32(-1);
    }
    writer.array(1);
    topic(writer, version >= 13, context);
    writer.array(1).int32(0);
    if version >= 9 {
        writer.int32(-1);
    }
    writer.int64(0);
    if version >= 12 {
        writer.int32(-1);
    }
    if version >= 5 {
        writer.int64(-1);
    }
    writer.int32(1 << 20).tags().tags();
    if version >= 7 {
        writer.array(0);
    }
    if version >= 11 {
        writer.string("");
    }
}

fn list_offsets(writer: &mut Writer, version: i16, context: &Context) {
    writer.int32(-1);
    if version >= 2 {
        writer.int8(0);
    }
    writer.array(1).string(&context.topic).array(1).int32(0);
    if version >= 4 {
        writer.int32(-1);
    }
    writer.int64(-1).tags().tags();
    if version >= 10 {
        writer.int32(1_000);
    }
}

fn metadata(writer: &mut Writer, version: i16, context: &Context) {
    writer.array(1);
    if version >= 10 {
        writer.raw(&[0; 16]);
    }
    writer.string(&context.topic).tags();
    if version >= 4 {
        writer.boolean(true);
    }
    if (8..=10).contains(&version) {
        writer.boolean(false);
    }
    if version >= 8 {
        writer.boolean(false);
    }
}

fn offset_commit(writer: &mut Writer, version: i16, context: &Context) {
    writer.string(&context.group).int32(-1).string("");
    if version >= 7 {
        writer.nullable_string(None);
    }
    if version <= 4 {
        writer.int64(-1);
    }
    writer.array(1);
    topic(writer, version >= 10, context);
    writer.array(1).int32(0).int64(0);
    if version >= 6 {
        writer.int32(-1);
    }
    writer.nullable_string(Some("note")).tags().tags();
}

fn offset_fetch(writer: &mut Writer, version: i16, context: &Context) {
    if version >= 8 {
        writer.array(1);
    }
    writer.string(&context.group);
    if version >= 9 {
        writer.nullable_string(None).int32(-1);
    }
    writer.array(1);
    topic(writer, version >= 10, context);
    writer.array(1).int32(0).tags();
    if version >= 8 {
        writer.tags();
    }
    if version >= 7 {
        writer.boolean(true);
    }
}

fn find_coordinator(writer: &mut Writer, version: i16, context: &Context) {
    if version <= 3 {
        writer.string(&context.group);
    }
    if version >= 1 {
        writer.int8(0);
    }
    if version >= 4 {
        writer.array(1).string(&context.group);
    }
}

fn join_group(writer: &mut Writer, version: i16, context: &Context) {
    writer.string(&context.group).int32(6_000);
    if version >= 1 {
        writer.int32(6_000);
    }
    writer.string("");
    if version >= 5 {
        writer.nullable_string(None);
    }
    writer.string("consumer").array(1).string("range").byte_string(b"\0\0").tags();
    if version >= 8 {
        writer.nullable_string(Some("because"));
    }
}

fn heartbeat(writer: &mut Writer, version: i16, context: &Context) {
    writer.string(&context.group).int32(1).string("nobody");
    if version >= 3 {
        writer.nullable_string(None);
    }
}

fn leave_group(writer: &mut Writer, version: i16, context: &Context) {
    writer.string(&context.group);
    if version <= 2 {
        writer.string("nobody");
        return;
    }
    writer.array(1).string("nobody").nullable_string(None);
    if version >= 5 {
        writer.nullable_string(None);
    }
    writer.tags();
}

fn sync_group(writer: &mut Writer, version: i16, context: &Context) {
    heartbeat(writer, version, context);
    if version >= 5 {
        writer.nullable_string(Some("consumer")).nullable_string(Some("range"));
    }
    writer.array(1).string("nobody").byte_string(b"\0\0").tags();
}

fn api_versions(writer: &mut Writer, version: i16, _: &Context) {
    if version >= 3 {
        writer.string("raw").string("1.0");
    }
}

fn create_topics(writer: &mut Writer, _: i16, context: &Context) {
    let new = unique(&context.topic);
    writer.array(1).string(&new).int32(1).int16(1).array(0);
    writer.array(1).string("retention.ms").nullable_string(Some("60000")).tags().tags();
    // Validated only: nothing is created.
    writer.int32(1_000).boolean(true);
}

fn delete_topics(writer: &mut Writer, version: i16, _: &Context) {
    let absent = unique("absent");
    writer.array(1);
    if version >= 6 {
        writer.nullable_string(Some(&absent)).raw(&[0; 16]).tags();
    } else {
        writer.string(&absent);
    }
    writer.int32(1_000);
}

fn init_producer_id(writer: &mut Writer, version: i16, _: &Context) {
    writer.nullable_string(None).int32(1_000);
    if version >= 3 {
        writer.int64(-1).int16(-1);
    }
}

fn offset_for_leader_epoch(writer: &mut Writer, version: i16, context: &Context) {
    if version >= 3 {
        writer.int32(-1);
    }
    writer.array(1).string(&context.topic).array(1).int32(0).int32(-1).int32(0);
    writer.tags().tags();
}

fn describe_configs(writer: &mut Writer, version: i16, context: &Context) {
    writer.array(1).int8(2).string(&context.topic);
    writer.array(1).string("retention.ms").tags().boolean(true);
    if version >= 3 {
        writer.boolean(true);
    }
}

fn elect_leaders(writer: &mut Writer, version: i16, context: &Context) {
    if version >= 1 {
        writer.int8(0);
    }
    writer.array(1).string(&context.topic).array(1).int32(0).tags().int32(5_000);
}

fn alter_partition_reassignments(writer: &mut Writer, version: i16, context: &Context) {
    writer.int32(5_000);
    if version >= 1 {
        writer.boolean(true);
    }
    writer.array(1).string(&context.topic).array(1).int32(0).array(1).int32(1).tags().tags();
}

fn list_partition_reassignments(writer: &mut Writer, _: i16, context: &Context) {
    writer.int32(5_000).array(1).string(&context.topic).array(1).int32(0).tags();
}

fn describe_cluster(writer: &mut Writer, version: i16, _: &Context) {
    writer.boolean(false);
    if version >= 1 {
        writer.int8(1);
    }
    if version >= 2 {
        writer.boolean(false);
    }
}
