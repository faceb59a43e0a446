//! JSON (RFC 8259) by serde_json.
//!
//! Absent on purpose: pretty output, and numbers beyond 64 bits.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError};

/// Values as JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Json;

const NAME: &str = "JSON";

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| CodecError::encode(NAME, error))
    }

    fn decode(&self, bytes: &Bytes) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::decode(NAME, error))
    }
}
