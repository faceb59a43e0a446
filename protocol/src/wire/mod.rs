//! What both protocols are written in: bounded primitives and the notation of structures.
//!
//! ```text
//!   kafka::api, native ──described in──> notation ──> value ──> reader, writer ──> bytes
//! ```
//!
//! Kafka's messages and our own have the same compact form (KIP-482): big-endian numbers, lengths
//! as varints, tagged fields at the end of each structure. One implementation of it is bounded,
//! fuzzed and measured once.
//!
//! Invariants
//! - Decoding never panics, never reads past its message, and holds at most 32 times the
//!   message's bytes plus 64 KiB.
//! - Record bytes are never copied, in neither direction.
//!
//! Absent on purpose: frames, which the two protocols have each their own.

pub mod error;
pub mod error_code;
pub(crate) mod notation;
pub mod reader;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
pub mod value;
pub mod writer;

pub use error::{DecodeError, DecodeFault, EncodeError, EncodeFault};
pub use error_code::ErrorCode;
pub use reader::Reader;
pub use text::Text;
pub use value::{At, Wire};
pub use writer::{Chain, Writer};
