//! Bytes that may never change: what old clients send and old brokers answer.

use super::super::*;
use super::split;
use crate::ids::TopicId;
use crate::wire::{Chain, ErrorCode};
use bytes::Bytes;
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn request_is(request: impl Into<Request>, bytes: &str) {
    let request = request.into();
    let encoded = request.encode(0x0403_0201, 1).expect("it fits").to_bytes();
    assert_eq!(hex(&encoded), bytes.replace(' ', ""), "{}", request.name());
    let (decoded, _) = Request::decode(split(&encoded), 1).expect("it was encoded");
    assert_eq!(decoded, request);
}

fn reply_is(reply: Reply, bytes: &str) {
    let encoded = reply.encode(0x0403_0201, 1).expect("it fits").to_bytes();
    assert_eq!(hex(&encoded), bytes.replace(' ', ""), "{reply:?}");
    assert_eq!(Reply::decode(split(&encoded), 1), Ok(reply));
}

const TOPIC: TopicId = TopicId([0x11; 16]);

#[test]
fn a_connection_begins_with_these_bytes() {
    request_is(
        Hello {
            version_min: 1,
            version_max: 2,
            client_name: "app".into(),
            auth: Auth { mechanism: "token".into(), credentials: Bytes::from_static(b"t") },
            ..Hello::default()
        },
        "20000000 0100 01020304 0001 0002 0000000000000000 04617070 06746f6b656e 0274 00 00",
    );
    reply_is(
        Reply::Welcome(Welcome {
            version: 1,
            cluster_id: "c".into(),
            node_id: 1,
            broker_version: "0.1.0".into(),
            durability: "flushed".into(),
            limits: ConnectionLimits { frame_bytes_max: 9, ..ConnectionLimits::default() },
            ..Welcome::default()
        }),
        "4a000000 0180 01020304 0001 0000000000000000 0263 00000001 06302e312e30 \
         08666c7573686564 00000009 00000000 00000000 00000000 00000000 00000000 \
         0000000000000000 00000000 00 00",
    );
    request_is(OpenStream { role: 2 }, "08000000 0200 01020304 02 00");
    reply_is(Reply::StreamOpened(StreamOpened {}), "07000000 0280 01020304 00");
}

#[test]
fn a_batch_travels_in_these_bytes() {
    request_is(
        ProduceRequest {
            topic_id: TOPIC,
            partition: 3,
            timeout_ms: 1_000,
            records: Chain::from(Bytes::from_static(b"abc")),
        },
        "23000000 2000 01020304 11111111111111111111111111111111 00000003 000003e8 04616263 00",
    );
    reply_is(
        Reply::Produce(ProduceResponse {
            base_offset: 7,
            log_start: 2,
            is_duplicate: true,
            durability: "flushed".into(),
            replicas: 1,
        }),
        "24000000 2080 01020304 0000000000000007 0000000000000002 01 08666c7573686564 \
         00000001 00",
    );
    reply_is(
        Reply::Error(ErrorReply {
            code: ErrorCode::OFFSET_OUT_OF_RANGE,
            message: "no".into(),
            is_retriable: false,
            possibly_written: false,
            log_start: 4,
            high_watermark: 9,
            ..ErrorReply::default()
        }),
        "22000000 ffff 01020304 0001 036e6f 00 00 02 00 08 0000000000000004 \
         01 08 0000000000000009",
    );
}

#[test]
fn a_subscription_travels_in_these_bytes() {
    request_is(
        SubscribeRequest {
            topic_id: TOPIC,
            partition: 3,
            offset: 5,
            credit_bytes: 65_536,
            leader_epoch: -1,
        },
        "2f000000 3100 01020304 11111111111111111111111111111111 00000003 0000000000000005 \
         0000000000010000 ffffffff 00",
    );
    request_is(Credit { credit_bytes: u64::MAX }, "0f000000 3200 01020304 ffffffffffffffff 00");
    reply_is(
        Reply::Records(Records {
            high_watermark: 9,
            log_start: 0,
            records: [&b"ab"[..], b"c"].into_iter().map(Bytes::from_static).collect(),
        })
        .joined(),
        "1b000000 3140 01020304 0000000000000009 0000000000000000 04616263 00",
    );
}

#[test]
fn nodes_come_and_go_by_these_bytes() {
    request_is(
        PermitNodeRequest { node_id: 4, replaces: true, validate_only: false, timeout_ms: 1_000 },
        "11000000 7100 01020304 00000004 01 00 000003e8 00",
    );
    reply_is(Reply::PermitNode(PermitNodeResponse {}), "07000000 7180 01020304 00");
    request_is(
        SetStandingRequest {
            node_id: 4,
            standing: "leaving".into(),
            validate_only: true,
            timeout_ms: 1_000,
        },
        "18000000 7200 01020304 00000004 086c656176696e67 01 000003e8 00",
    );
    request_is(
        ReassignPartitionsRequest {
            partitions: vec![
                PartitionMove { topic: "t".into(), partition: 1, nodes: Some(vec![4]) },
                PartitionMove { topic: "t".into(), partition: 2, nodes: None },
            ],
            timeout_ms: 1_000,
        },
        "20000000 7300 01020304 03 0274 00000001 02 00000004 00 0274 00000002 00 00 000003e8 00",
    );
    request_is(ListNodesRequest {}, "07000000 7000 01020304 00");
    request_is(ListReassignmentsRequest {}, "07000000 7400 01020304 00");
}

impl Reply {
    /// With its records in one piece, as they are when they have come over the wire.
    fn joined(self) -> Self {
        match self {
            Self::Records(records) => {
                let joined = Chain::from(records.records.to_bytes());
                Self::Records(Records { records: joined, ..records })
            }
            other => other,
        }
    }
}
