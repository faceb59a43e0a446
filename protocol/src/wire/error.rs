//! Why bytes are no message, and why a message has no bytes.
//!
//! Both name the message, the field, what was found and what would have been right, so that one
//! log line is enough to find the client at fault.
//!
//! Absent on purpose: what a door does about it (`request` says which errors have an answer).

use crate::limits::{NESTING_DEPTH_MAX, REQUEST_ELEMENTS_MAX, REQUEST_TAGS_MAX};
use thiserror::Error;

/// A message that could not be decoded. The connection it came over is out of step: close it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{message} v{version}, field {field}, byte {position}: {fault}")]
pub struct DecodeError {
    /// Message or nested structure, by its Rust name.
    pub message: &'static str,
    /// Version that it was read at.
    pub version: i16,
    /// Innermost field, or empty between fields.
    pub field: &'static str,
    /// Bytes of the message that had been read.
    pub position: usize,
    /// What was wrong there.
    pub fault: DecodeFault,
}

/// What is wrong with the bytes at one position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecodeFault {
    /// The message ends inside the value.
    #[error("{expected} bytes expected, {found} are left")]
    Truncated {
        /// Bytes that the value needs.
        expected: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A length below −1, or beyond what a 32-bit signed length can say.
    #[error("length {found} expected to be -1 or more, and to fit 31 bits")]
    Length {
        /// What was there.
        found: i64,
    },
    /// An array that claims more elements than the bytes behind it can hold.
    #[error("{found} elements found, at most {elements_max} fit the rest of the message")]
    Count {
        /// What was there.
        found: i64,
        /// What fits: bytes left, divided by the smallest encoding of an element.
        elements_max: usize,
    },
    /// A null where this version has none.
    #[error("null found, a value expected")]
    Null,
    /// Text that is no UTF-8.
    #[error("invalid UTF-8 behind {valid_bytes} valid bytes")]
    Utf8 {
        /// Bytes before the first invalid one.
        valid_bytes: usize,
    },
    /// A variable-length number of more than 32 bits.
    #[error("unsigned varint longer than 32 bits")]
    Varint,
    /// A marker in front of a nullable structure that is neither −1 nor 1.
    #[error("structure marker {found} found, -1 or 1 expected")]
    Marker {
        /// What was there.
        found: i8,
    },
    /// A tagged field whose content is shorter or longer than its size says.
    #[error("tag {tag} says {expected} bytes, its content has {found}")]
    TagSize {
        /// Number of the tag.
        tag: u32,
        /// Bytes that its size promises.
        expected: usize,
        /// Bytes that its content took.
        found: usize,
    },
    /// More array elements than one request may have.
    #[error("{found} array elements found, at most {REQUEST_ELEMENTS_MAX} allowed")]
    Elements {
        /// Elements up to here, the array at hand included.
        found: usize,
    },
    /// More tagged fields than one request may have.
    #[error("{found} tagged fields found, at most {REQUEST_TAGS_MAX} allowed")]
    Tags {
        /// Tagged fields up to here.
        found: usize,
    },
    /// Structures nested deeper than any message does.
    #[error("structures nested deeper than {NESTING_DEPTH_MAX}")]
    Depth,
    /// Decoded, the message would take more memory than its size permits.
    #[error("{found} bytes needed for decoded values, {bytes_max} allowed for this message")]
    Memory {
        /// Bytes in use with the reservation that was refused.
        found: usize,
        /// The message's budget.
        bytes_max: usize,
    },
}

/// A message that the wire cannot carry at the version asked for. A fault of ours, or of an
/// answer longer than the wire's lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{message} v{version}, field {field}: {fault}")]
pub struct EncodeError {
    /// Message or nested structure, by its Rust name.
    pub message: &'static str,
    /// Version that it was written at.
    pub version: i16,
    /// Innermost field, or empty between fields.
    pub field: &'static str,
    /// Why it has no encoding.
    pub fault: EncodeFault,
}

/// Why a value has no encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EncodeFault {
    /// Longer than the length in front of it can say.
    #[error("{found} bytes or elements, at most {length_max} can be written")]
    Length {
        /// What the value has.
        found: usize,
        /// What the length field can say.
        length_max: usize,
    },
    /// A null where this version has none.
    #[error("null, a value expected")]
    Null,
    /// A value that matters, in a field that this version lacks.
    #[error("set, but this version does not have the field")]
    Absent,
    /// A version outside the API's range.
    #[error("versions {min} to {max} expected")]
    Version {
        /// Lowest version.
        min: i16,
        /// Highest version.
        max: i16,
    },
}

impl DecodeError {
    /// Names the field, unless one further in has been named.
    pub(crate) fn in_field(mut self, message: &'static str, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.message = message;
            self.field = field;
        }
        self
    }
}

impl EncodeError {
    /// Names the field, unless one further in has been named.
    pub(crate) fn in_field(mut self, message: &'static str, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.message = message;
            self.field = field;
        }
        self
    }
}
