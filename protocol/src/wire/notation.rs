//! The notation in which a structure is described, and the codec that follows from it.
//!
//! ```text
//! structure! {
//!     /// Doc.
//!     Example {
//!         group_id: Text,                             in every version, never null
//!         instance_id: Option<Text> [3..],            since version 3, may be null
//!         members: Vec<Member> [3..=4],               versions 3 and 4
//!         wait_ms: i32 [1.., ignorable] = -1,         default -1; left out below version 1
//!     }
//! }
//! ```
//!
//! Behind a field's type, in brackets, in any order:
//!
//! | word | meaning |
//! |---|---|
//! | `3..`, `0..=7` | versions that have the field; all, if nothing is said |
//! | `nullable 2..` | an `Option` that may be null only from version 2 on |
//! | `or_empty` | below that, null is written as the empty value |
//! | `tag 1` | a tagged field; left out when it has its default |
//! | `ignorable` | a value other than the default is dropped, not refused, by versions without it |
//!
//! From this follow the type (a plain structure, public fields, `Default` as described), the codec
//! of both directions, and in tests the sampler. Fields are read and written in the order of the
//! description; tags ascend.
//!
//! Absent on purpose: structures with versions of their own, maps, and generated code on disk.

/// One structure: its type, default, codec and, in tests, its sampler.
macro_rules! structure {
    (
        $(#[$doc:meta])*
        $struct:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident : $type:ty $([$($attribute:tt)*])? $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $struct {
            $(
                $(#[$field_doc])*
                #[doc = concat!(
                    "\n\nKafka's `", stringify!($field), "`",
                    $(", `", stringify!($($attribute)*), "`",)?
                    $(", default `", stringify!($default), "`",)?
                    "."
                )]
                pub $field: $type,
            )*
        }

        #[allow(non_upper_case_globals, reason = "constants named after the fields they describe")]
        impl $struct {
            $(
                const $field: $crate::wire::value::Field = $crate::wire::notation::field!(
                    $crate::wire::value::Field::new(stringify!($field)); $($($attribute)*)?
                );
            )*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $($field: $crate::wire::notation::default!($($default)?)),* }
            }
        }

        #[allow(unused_mut, unused_variables, reason = "a structure may be empty")]
        impl $crate::wire::value::Wire for $struct {
            fn bytes_min(at: $crate::wire::value::At) -> usize {
                let mut bytes = usize::from(at.flexible);
                $(
                    if Self::$field.is_plain_in(at.version) {
                        bytes += <$type as $crate::wire::value::Wire>::bytes_min(at);
                    }
                )*
                bytes
            }

            fn read(
                reader: &mut $crate::wire::reader::Reader,
            ) -> Result<Self, $crate::wire::error::DecodeError> {
                let version = reader.at().version;
                let mut value = Self::default();
                reader.enter()?;
                $(
                    if Self::$field.is_plain_in(version) {
                        value.$field = Self::$field.read(stringify!($struct), reader)?;
                    }
                )*
                reader.tagged_fields(|_reader, _tag| {
                    $(
                        if Self::$field.tag_in(version) == Some(_tag) {
                            value.$field = Self::$field.read(stringify!($struct), _reader)?;
                            return Ok(true);
                        }
                    )*
                    Ok(false)
                }).map_err(|error| error.in_field(stringify!($struct), "tagged fields"))?;
                reader.leave();
                Ok(value)
            }

            fn write(
                &self,
                writer: &mut $crate::wire::writer::Writer,
            ) -> Result<(), $crate::wire::error::EncodeError> {
                let version = writer.at().version;
                $(
                    if Self::$field.is_plain_in(version) {
                        Self::$field.write(&self.$field, stringify!($struct), writer)?;
                    } else if !Self::$field.is_in(version) {
                        let default: $type = $crate::wire::notation::default!($($default)?);
                        let is_default = self.$field == default;
                        Self::$field.omit(is_default, stringify!($struct), writer)?;
                    }
                )*
                if writer.at().flexible {
                    self.write_tagged_fields(writer)?;
                }
                Ok(())
            }
        }

        #[allow(unused_mut, unused_variables, reason = "a structure may be empty")]
        impl $struct {
            fn write_tagged_fields(
                &self,
                writer: &mut $crate::wire::writer::Writer,
            ) -> Result<(), $crate::wire::error::EncodeError> {
                let version = writer.at().version;
                let mut tags = 0_u32;
                $(
                    let default: $type = $crate::wire::notation::default!($($default)?);
                    let $field = Self::$field.tag_in(version).filter(|_| self.$field != default);
                    tags += u32::from($field.is_some());
                )*
                writer.varint(tags);
                $(
                    if let Some(tag) = $field {
                        writer.tagged(tag, |writer| {
                            Self::$field.write(&self.$field, stringify!($struct), writer)
                        })?;
                    }
                )*
                Ok(())
            }
        }

        impl $crate::wire::value::Nullable for $struct {
            fn bytes_min_nullable(_: $crate::wire::value::At) -> usize {
                1
            }

            fn read_nullable(
                reader: &mut $crate::wire::reader::Reader,
            ) -> Result<Option<Self>, $crate::wire::error::DecodeError> {
                $crate::wire::value::read_marked(reader)
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut $crate::wire::writer::Writer,
            ) -> Result<(), $crate::wire::error::EncodeError> {
                $crate::wire::value::write_marked(value, writer)
            }
        }

        #[cfg(test)]
        #[allow(unused_mut, unused_variables, reason = "a structure may be empty")]
        impl $crate::wire::tests::Sample for $struct {
            fn sample(
                source: &mut $crate::wire::tests::Source,
                version: i16,
                _nullable: bool,
            ) -> Self {
                let mut value = Self::default();
                $(
                    let field = Self::$field;
                    let tagged = field.tag_in(version).is_some();
                    if field.is_in(version) && !(tagged && source.one_in(2)) {
                        let nullable = field.is_nullable_in(version);
                        value.$field = <$type as $crate::wire::tests::Sample>::sample(
                            source, version, nullable,
                        );
                    }
                )*
                value
            }
        }
    };
}

/// The brackets behind a field's type, word by word.
macro_rules! field {
    ($field:expr;) => {
        $field
    };
    ($field:expr; $since:literal ..= $until:literal $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.since($since).until($until); $($($rest)*)?)
    };
    ($field:expr; $since:literal .. $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.since($since); $($($rest)*)?)
    };
    ($field:expr; nullable $since:literal .. $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.nullable($since); $($($rest)*)?)
    };
    ($field:expr; or_empty $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.null_as_empty(); $($($rest)*)?)
    };
    ($field:expr; tag $number:literal $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.tag($number); $($($rest)*)?)
    };
    ($field:expr; ignorable $(, $($rest:tt)*)?) => {
        $crate::wire::notation::field!($field.ignorable(); $($($rest)*)?)
    };
}

/// A field's default: the one given, else that of its type.
macro_rules! default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

pub(crate) use {default, field, structure};
