//! The Rust client of Bateau, over its native protocol: QUIC, one UDP port, TLS always.
//!
//! ```
//! use bateau_client::Client;
//!
//! # bateau_testing::private::run_with_broker(|broker| async move {
//! # let address = broker.native_url().expect("the native door is open");
//! // "quic://127.0.0.1:9443" is where `bateau dev` listens.
//! let client = Client::connect(&address).await?;
//!
//! let ack = client.producer("orders").send("order 7").await?;
//! println!("partition {}, offset {}, {}", ack.partition, ack.offset, ack.durability);
//! # assert_eq!((ack.offset, ack.duplicate), (0, false));
//!
//! let mut consumer = client.consumer("billing").topics(["orders"]).start().await?;
//! while let Some(delivery) = consumer.try_next().await? {
//!     println!("{:?}", delivery.value);
//!     delivery.ack().await?;
//! #   break;
//! }
//! # consumer.close().await?;
//! client.close().await?;
//! # Ok::<_, bateau_client::Error>(())
//! # })
//! # .expect("the example works");
//! ```
//!
//! | module | what it knows |
//! |---|---|
//! | [`client`] | options, and the handle that everything is made from |
//! | [`producer`] | batching, order, writing once |
//! | [`consumer`] | positions, credit, groups, commits |
//! | [`admin`] | topics, groups, offsets, status |
//! | [`typed`], [`requester`], [`blocking`] | values, replies, and calls that wait |
//! | [`error`] | one enum per operation |
//! | [`group`], [`partitioner`], [`codec`], [`cursor`], [`trace`] | shared with Kafka's clients |
//! | [`retry`], [`breaker`] | when to try again, and when not to |
//!
//! Invariants
//! - What a broker sends is untrusted: it is bounded before it is stored, and never panics.
//! - Every queue has a limit; whoever fills it waits.
//! - No retry writes anything twice, unless idempotence was switched off; and then there is none.
//!
//! Absent on purpose: Kafka's wire protocol. Its clients speak it, on another port of the same
//! broker.

mod address;
pub mod admin;
pub mod blocking;
pub mod breaker;
pub mod client;
mod cluster;
pub mod codec;
mod connection;
pub mod consumer;
pub mod cursor;
pub mod error;
pub mod group;
pub mod partitioner;
pub mod producer;
mod record;
pub mod request_reply;
pub mod requester;
pub mod retry;
pub mod trace;
pub mod typed;

pub use address::DEFAULT_PORT;
pub use admin::Admin;
pub use bateau_protocol::ids::TopicId;
pub use bateau_protocol::record::Compression;
pub use bateau_protocol::wire::ErrorCode;
pub use bateau_quic::{Settings as QuicSettings, SpkiPin, contexts};
pub use client::{BrokerInfo, Client, ClientBuilder};
pub use consumer::{
    AssignmentWatch, CommitPolicy, Consumer, ConsumerBuilder, Delivery, OutOfRange, Start,
};
pub use error::{
    AdminError, BrokerError, CommitError, ConnectError, ConsumeError, Error, ErrorKind,
    RequestError, Result, SendError, Unsent,
};
pub use group::TopicPartition;
pub use producer::{Producer, SendHandle};
pub use record::{Ack, Durability, Header, Record};
pub use requester::{ReplyError, Requester};
pub use typed::{TypedConsumer, TypedProducer};
