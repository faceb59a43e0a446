//! Bytes to types and back.
//!
//! ```text
//!   frame   the 64-byte header around every log entry     record   RecordBatch v2 as views
//!   kafka   Kafka's messages, one file per API            limits   every wire limit
//!   native  our own protocol's frames and messages        wire     what both are written in
//!   peer    what brokers say to each other                terms    where each term starts
//!   ids     the numbers that must not mix                  gap      what stands for lost entries
//! ```
//!
//! Invariants
//! - A decoder never panics, never reads past its input and never reserves memory for bytes that
//!   are not there (`limits`).
//! - Nothing here does I/O, reads a clock or draws a random number.
//!
//! Absent on purpose: any rule about what a request *means*; and without the feature `compression`
//! the codecs of record batches.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod fields;
pub mod frame;
pub mod gap;
pub mod ids;
pub mod kafka;
pub mod limits;
pub mod native;
pub mod peer;
pub mod record;
pub mod terms;
pub mod wire;
