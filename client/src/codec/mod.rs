//! Values as bytes: what typed producers and consumers are given.
//!
//! ```text
//!   T ── Codec::encode ──> value of a record ── Codec::decode ──> T
//!   Json (feature json)    Protobuf (feature protobuf)    Avro (feature avro)
//! ```
//!
//! Invariants
//! - What a codec encodes, the same codec decodes.
//! - Input that is not what the codec makes gives an error, never a panic; all of it is read.
//!
//! Absent on purpose: null values (a tombstone is no value, so no codec sees it), and the framing
//! of schema registries. The schema is in the code of both sides.

#[cfg(feature = "avro")]
mod avro;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "protobuf")]
mod protobuf;

#[cfg(all(test, feature = "avro", feature = "json", feature = "protobuf"))]
mod tests;

use std::error::Error;

use bytes::Bytes;

#[cfg(feature = "avro")]
pub use avro::{AVRO_ALLOCATION_BYTES_MAX, Avro, SchemaError};
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;

/// Turns values of type `T` into bytes and back.
pub trait Codec<T>: Send + Sync {
    /// Appends the value's bytes to `out`.
    ///
    /// Errors: [`CodecError`]; then `out` holds what it held before, and perhaps a part of the
    /// value behind it.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value. Types that borrow nothing are all that is read, so `bytes` may go.
    ///
    /// Errors: [`CodecError`].
    fn decode(&self, bytes: &Bytes) -> Result<T, CodecError>;
}

/// What a codec was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecStep {
    /// A value into bytes.
    Encode,
    /// Bytes into a value.
    Decode,
}

/// A value that does not fit its codec, or bytes that do not.
#[derive(Debug, thiserror::Error)]
#[error("could not {} a value as {codec}: {source}", match step {
    CodecStep::Encode => "write",
    CodecStep::Decode => "read",
})]
pub struct CodecError {
    /// The codec's name.
    pub codec: &'static str,
    /// In which direction.
    pub step: CodecStep,
    /// What it had to say.
    pub source: Box<dyn Error + Send + Sync>,
}

#[cfg(any(feature = "avro", feature = "json", feature = "protobuf"))]
impl CodecError {
    fn encode(codec: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { codec, step: CodecStep::Encode, source: source.into() }
    }

    fn decode(codec: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { codec, step: CodecStep::Decode, source: source.into() }
    }
}
