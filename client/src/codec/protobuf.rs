//! Protocol Buffers by prost: types are messages that `prost-build` or a derive has made.
//!
//! Absent on purpose: length prefixes. A record's value is one message.

use bytes::Bytes;
use prost::Message;

use super::{Codec, CodecError};

/// Values as Protocol Buffers messages.
///
/// Fields that a type does not know are dropped when it is read, as proto3 readers may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protobuf;

const NAME: &str = "Protobuf";

impl<T: Message + Default> Codec<T> for Protobuf {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        value.encode(out).map_err(|error| CodecError::encode(NAME, error))
    }

    fn decode(&self, bytes: &Bytes) -> Result<T, CodecError> {
        T::decode(bytes.clone()).map_err(|error| CodecError::decode(NAME, error))
    }
}
