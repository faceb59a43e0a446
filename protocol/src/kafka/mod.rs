//! Kafka's wire protocol: frames, headers, and one description per API.
//!
//! ```text
//!   socket ─► framing ─► request ─► header ─► api::Request      frames in, typed requests out
//!                                     │           ▲
//!                                     │     notation: one description per API (`api/*.rs`)
//!                                     │           │
//!                                     │      crate::wire: bounded primitives       
//!                                     ▼           ▼
//!   socket ◄───── parts of bytes ◄─ Chain ◄─ api::Response      answers out, records lent
//! ```
//!
//! Invariants
//! - Decoding never panics, never reads past its frame, and holds at most 32 times the frame's
//!   bytes plus 64 KiB; requests that carry or ask for records allocate nothing.
//! - Record bytes are never copied, in neither direction.
//! - An answer is encoded at the version of its request, in the form of Kafka 4.3.
//!
//! Absent on purpose: what requests mean, compression, authentication state, and messages that
//! brokers of Kafka's own send each other.

pub mod api;
pub mod framing;
pub mod header;
mod notation;
pub mod request;
#[cfg(test)]
mod tests;
pub mod view;

pub use crate::wire::{Chain, DecodeError, DecodeFault, EncodeError, EncodeFault, ErrorCode, Text};
pub use api::{ApiInfo, ApiKey, Request, Response};
pub use framing::{FrameError, Framing, Split};
pub use header::{RequestHeader, decode_response, encode_request, encode_response};
pub use request::{RequestError, decode_request, decode_request_charged};
