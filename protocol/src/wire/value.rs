//! How values of each type stand on the wire, and what a field's notation says about it.
//!
//! [`Wire`] is implemented here for numbers, text, bytes, record batches, ids and arrays, and by
//! the notation for structures. [`Field`] holds what a description says of one field.
//!
//! Absent on purpose: floating point, which no message here has.

use super::error::{DecodeError, DecodeFault, EncodeError, EncodeFault};
use super::error_code::ErrorCode;
use super::reader::Reader;
use super::text::Text;
use super::writer::{Chain, Writer};
use crate::ids::TopicId;
use bytes::Bytes;

/// The form that a message is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct At {
    /// Version of the API.
    pub version: i16,
    /// Whether lengths are compact and structures end with tagged fields (KIP-482).
    pub flexible: bool,
}

/// A value that has a form on the wire.
pub trait Wire: Sized {
    /// Bytes of the smallest encoding; bounds the counts of arrays.
    fn bytes_min(at: At) -> usize;

    /// Reads a value.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; the value is then lost.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// Writes the value.
    ///
    /// # Errors
    /// Whatever the version cannot say.
    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError>;

    /// Whether this is a null.
    fn is_null(&self) -> bool {
        false
    }

    /// Writes the empty value in place of a null, where a version has no null.
    ///
    /// # Errors
    /// Those of [`Wire::write`].
    fn write_empty(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.write(writer)
    }
}

/// A value that may be null: `Option` of it has a form on the wire too.
pub trait Nullable: Wire + Default {
    /// Bytes of the smallest encoding, null included.
    fn bytes_min_nullable(at: At) -> usize {
        Self::bytes_min(at)
    }

    /// Reads a value or a null.
    ///
    /// # Errors
    /// As [`Wire::read`].
    fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, DecodeError>;

    /// Writes a value or a null.
    ///
    /// # Errors
    /// As [`Wire::write`].
    fn write_nullable(value: Option<&Self>, writer: &mut Writer) -> Result<(), EncodeError>;
}

impl<T: Nullable> Wire for Option<T> {
    fn bytes_min(at: At) -> usize {
        T::bytes_min_nullable(at)
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        T::read_nullable(reader)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        T::write_nullable(self.as_ref(), writer)
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn write_empty(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        T::default().write(writer)
    }
}

macro_rules! numbers {
    ($($type:ty: $read:ident),*) => {$(
        impl Wire for $type {
            fn bytes_min(_: At) -> usize {
                size_of::<Self>()
            }

            fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
                reader.$read()
            }

            fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                writer.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

numbers!(i8: int8, i16: int16, i32: int32, i64: int64, u64: uint64);

impl Wire for bool {
    fn bytes_min(_: At) -> usize {
        1
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        // Kafka takes every byte but 0 for true.
        Ok(reader.int8()? != 0)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }
}

impl Wire for ErrorCode {
    fn bytes_min(_: At) -> usize {
        2
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.int16().map(Self)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.0.write(writer)
    }
}

impl Wire for TopicId {
    fn bytes_min(_: At) -> usize {
        16
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.array().map(Self)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put(&self.0);
        Ok(())
    }
}

/// `Wire` of a type whose encoding starts with a length that may say null.
macro_rules! by_length {
    ($type:ty, $narrow:literal, $read:expr, $write:expr $(, $generic:ident)?) => {
        impl$(<$generic: Wire>)? Wire for $type {
            fn bytes_min(at: At) -> usize {
                if at.flexible { 1 } else { $narrow }
            }

            fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
                $read(reader)?.ok_or_else(|| reader.fault(DecodeFault::Null))
            }

            fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                $write(writer, Some(self))
            }
        }

        impl$(<$generic: Wire>)? Nullable for $type {
            fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
                $read(reader)
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut Writer,
            ) -> Result<(), EncodeError> {
                $write(writer, value)
            }
        }
    };
}

by_length!(Text, 2, Reader::string, Writer::string);
by_length!(Bytes, 4, Reader::bytes, Writer::bytes);
by_length!(Chain, 4, read_chain, Writer::chain);
by_length!(Vec<T>, 4, Reader::vector, write_vector, T);

fn read_chain(reader: &mut Reader) -> Result<Option<Chain>, DecodeError> {
    Ok(reader.bytes()?.map(Chain::from))
}

fn write_vector<T: Wire>(writer: &mut Writer, items: Option<&Vec<T>>) -> Result<(), EncodeError> {
    writer.vector(items.map(Vec::as_slice))
}

/// What a description says about one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    name: &'static str,
    since: i16,
    until: i16,
    nullable_since: i16,
    null_as_empty: bool,
    tag: Option<u32>,
    ignorable: bool,
}

impl Field {
    /// A field of every version.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            since: 0,
            until: i16::MAX,
            nullable_since: 0,
            null_as_empty: false,
            tag: None,
            ignorable: false,
        }
    }

    /// First version that has it.
    #[must_use]
    pub const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// Last version that has it.
    #[must_use]
    pub const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// First version in which it may be null.
    #[must_use]
    pub const fn nullable(mut self, version: i16) -> Self {
        self.nullable_since = version;
        self
    }

    /// A null is written as the empty value by versions that have no null.
    #[must_use]
    pub const fn null_as_empty(mut self) -> Self {
        self.null_as_empty = true;
        self
    }

    /// A tagged field with this number.
    #[must_use]
    pub const fn tag(mut self, number: u32) -> Self {
        self.tag = Some(number);
        self
    }

    /// May be left out, whatever its value, by versions that lack it.
    #[must_use]
    pub const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    /// Whether a version has the field.
    #[must_use]
    pub const fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    /// Whether a version has the field among the ordinary ones.
    #[must_use]
    pub const fn is_plain_in(&self, version: i16) -> bool {
        self.tag.is_none() && self.is_in(version)
    }

    /// Number of the tag under which a version has the field.
    #[must_use]
    pub const fn tag_in(&self, version: i16) -> Option<u32> {
        if self.is_in(version) { self.tag } else { None }
    }

    /// Whether the field may be null in a version.
    #[must_use]
    pub const fn is_nullable_in(&self, version: i16) -> bool {
        self.nullable_since <= version
    }

    /// Reads the field.
    ///
    /// # Errors
    /// The value's, named after `message` and the field; [`DecodeFault::Null`].
    pub fn read<T: Wire>(
        &self,
        message: &'static str,
        reader: &mut Reader,
    ) -> Result<T, DecodeError> {
        let result = T::read(reader).and_then(|value| {
            if value.is_null() && !self.is_nullable_in(reader.at().version) {
                return Err(reader.fault(DecodeFault::Null));
            }
            Ok(value)
        });
        result.map_err(|error| error.in_field(message, self.name))
    }

    /// Writes the field's value, in a version that has it.
    ///
    /// # Errors
    /// The value's, named after `message` and the field; [`EncodeFault::Null`].
    pub fn write<T: Wire>(
        &self,
        value: &T,
        message: &'static str,
        writer: &mut Writer,
    ) -> Result<(), EncodeError> {
        let result = if !value.is_null() || self.is_nullable_in(writer.at().version) {
            value.write(writer)
        } else if self.null_as_empty {
            value.write_empty(writer)
        } else {
            Err(writer.fault(EncodeFault::Null))
        };
        result.map_err(|error| error.in_field(message, self.name))
    }

    /// Decides about a value in a version that lacks the field.
    ///
    /// # Errors
    /// [`EncodeFault::Absent`] when it is not the default and may not be ignored.
    pub fn omit(
        &self,
        is_default: bool,
        message: &'static str,
        writer: &Writer,
    ) -> Result<(), EncodeError> {
        if is_default || self.ignorable {
            return Ok(());
        }
        Err(writer.fault(EncodeFault::Absent).in_field(message, self.name))
    }
}

/// Reads a structure that may be null: a marker byte comes first (KIP-893).
pub(crate) fn read_marked<T: Wire>(reader: &mut Reader) -> Result<Option<T>, DecodeError> {
    match reader.int8()? {
        -1 => Ok(None),
        1 => T::read(reader).map(Some),
        found => Err(reader.fault(DecodeFault::Marker { found })),
    }
}

/// Writes a structure that may be null.
pub(crate) fn write_marked<T: Wire>(
    value: Option<&T>,
    writer: &mut Writer,
) -> Result<(), EncodeError> {
    match value {
        None => (-1_i8).write(writer),
        Some(value) => {
            1_i8.write(writer)?;
            value.write(writer)
        }
    }
}
