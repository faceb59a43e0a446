//! The notation in which an API is described, and the codec that follows from it.
//!
//! ```text
//! api! {
//!     /// What the API is for.
//!     Example = 99 [versions 0..=5, flexible 4];      its key, what is advertised, KIP-482
//!
//!     request ExampleRequest {
//!         group_id: KafkaString,                      in every version, never null
//!         instance_id: Option<KafkaString> [3..],     since version 3, may be null
//!         members: Vec<Member> [3..=4],               versions 3 and 4
//!         wait_ms: i32 [1.., ignorable] = -1,         default -1; left out below version 1
//!     }
//!     response ExampleResponse { … }
//!     struct Member { … }                             structures that the two hold
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
//! And behind the API's key: `versions a..=b` (advertised), `served c..` (where refused versions
//! are advertised), `flexible n` or `flexible never`, `negotiates` (the one API whose unknown
//! versions are answered, KIP-511). `decoded as View` names a hand-written type that requests are
//! decoded into instead.
//!
//! From this follow the types (plain structs, public fields, `Default` as Kafka defines it), the
//! codec of both directions, and in tests the sampler and the link to the independent decoder.
//! Fields are read and written in the order of the description; tags ascend.
//!
//! Absent on purpose: structures with versions of their own, maps, and generated code on disk.

/// Describes one API: see the module's documentation.
macro_rules! api {
    (
        $(#[$doc:meta])*
        $api:ident = $key:literal [$($attribute:tt)*] $(decoded as $view:ident)?;

        $(#[$request_doc:meta])*
        request $request:ident { $($request_fields:tt)* }

        $(#[$response_doc:meta])*
        response $response:ident { $($response_fields:tt)* }

        $($(#[$struct_doc:meta])* struct $struct:ident { $($struct_fields:tt)* })*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $api;

        impl $crate::kafka::api::Api for $api {
            const INFO: $crate::kafka::api::ApiInfo = $crate::kafka::notation::info!(
                $crate::kafka::api::ApiInfo::new($key, stringify!($api)); $($attribute)*
            );
            type Request = $crate::kafka::notation::request_type!($request $($view)?);
            type PlainRequest = $request;
            type Response = $response;
        }

        impl $crate::kafka::api::Message for $request {
            const INFO: &'static $crate::kafka::api::ApiInfo =
                &<$api as $crate::kafka::api::Api>::INFO;
        }

        impl $crate::kafka::api::Message for $response {
            const INFO: &'static $crate::kafka::api::ApiInfo =
                &<$api as $crate::kafka::api::Api>::INFO;
        }

        impl From<$response> for $crate::kafka::api::Response {
            fn from(response: $response) -> Self {
                Self::$api(response)
            }
        }

        #[cfg(test)]
        impl $crate::kafka::tests::Compared for $api {
            type OracleRequest = kafka_wire::$request;
            type OracleResponse = kafka_wire::$response;
        }

        $crate::kafka::notation::structure! {
            $(#[$request_doc])*
            #[doc = concat!("Request of `", stringify!($api), "`.")]
            $request { $($request_fields)* }
        }

        $crate::kafka::notation::structure! {
            $(#[$response_doc])*
            #[doc = concat!("Answer to `", stringify!($api), "`.")]
            $response { $($response_fields)* }
        }

        $($crate::kafka::notation::structure! {
            $(#[$struct_doc])*
            #[doc = concat!("Part of `", stringify!($api), "`.")]
            $struct { $($struct_fields)* }
        })*
    };
}

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
                const $field: $crate::kafka::wire::Field = $crate::kafka::notation::field!(
                    $crate::kafka::wire::Field::new(stringify!($field)); $($($attribute)*)?
                );
            )*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $($field: $crate::kafka::notation::default!($($default)?)),* }
            }
        }

        impl $crate::kafka::wire::Wire for $struct {
            fn bytes_min(at: $crate::kafka::wire::At) -> usize {
                let mut bytes = usize::from(at.flexible);
                $(
                    if Self::$field.is_plain_in(at.version) {
                        bytes += <$type as $crate::kafka::wire::Wire>::bytes_min(at);
                    }
                )*
                bytes
            }

            fn read(
                reader: &mut $crate::kafka::reader::Reader,
            ) -> Result<Self, $crate::kafka::error::DecodeError> {
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
                writer: &mut $crate::kafka::writer::Writer,
            ) -> Result<(), $crate::kafka::error::EncodeError> {
                let version = writer.at().version;
                $(
                    if Self::$field.is_plain_in(version) {
                        Self::$field.write(&self.$field, stringify!($struct), writer)?;
                    } else if !Self::$field.is_in(version) {
                        let default: $type = $crate::kafka::notation::default!($($default)?);
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

        impl $struct {
            fn write_tagged_fields(
                &self,
                writer: &mut $crate::kafka::writer::Writer,
            ) -> Result<(), $crate::kafka::error::EncodeError> {
                let version = writer.at().version;
                let mut tags = 0_u32;
                $(
                    let default: $type = $crate::kafka::notation::default!($($default)?);
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

        impl $crate::kafka::wire::Nullable for $struct {
            fn bytes_min_nullable(_: $crate::kafka::wire::At) -> usize {
                1
            }

            fn read_nullable(
                reader: &mut $crate::kafka::reader::Reader,
            ) -> Result<Option<Self>, $crate::kafka::error::DecodeError> {
                $crate::kafka::wire::read_marked(reader)
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut $crate::kafka::writer::Writer,
            ) -> Result<(), $crate::kafka::error::EncodeError> {
                $crate::kafka::wire::write_marked(value, writer)
            }
        }

        #[cfg(test)]
        impl $crate::kafka::tests::Sample for $struct {
            fn sample(
                source: &mut $crate::kafka::tests::Source,
                version: i16,
                _nullable: bool,
            ) -> Self {
                let mut value = Self::default();
                $(
                    let field = Self::$field;
                    let tagged = field.tag_in(version).is_some();
                    if field.is_in(version) && !(tagged && source.one_in(2)) {
                        let nullable = field.is_nullable_in(version);
                        value.$field = <$type as $crate::kafka::tests::Sample>::sample(
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
        $crate::kafka::notation::field!($field.since($since).until($until); $($($rest)*)?)
    };
    ($field:expr; $since:literal .. $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::field!($field.since($since); $($($rest)*)?)
    };
    ($field:expr; nullable $since:literal .. $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::field!($field.nullable($since); $($($rest)*)?)
    };
    ($field:expr; or_empty $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::field!($field.null_as_empty(); $($($rest)*)?)
    };
    ($field:expr; tag $number:literal $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::field!($field.tag($number); $($($rest)*)?)
    };
    ($field:expr; ignorable $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::field!($field.ignorable(); $($($rest)*)?)
    };
}

/// The brackets behind an API's key, word by word.
macro_rules! info {
    ($info:expr;) => {
        $info
    };
    ($info:expr; versions $min:literal ..= $max:literal $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::info!($info.versions($min, $max); $($($rest)*)?)
    };
    ($info:expr; served $min:literal .. $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::info!($info.served($min); $($($rest)*)?)
    };
    ($info:expr; flexible never $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::info!($info; $($($rest)*)?)
    };
    ($info:expr; flexible $since:literal $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::info!($info.flexible($since); $($($rest)*)?)
    };
    ($info:expr; negotiates $(, $($rest:tt)*)?) => {
        $crate::kafka::notation::info!($info.negotiates(); $($($rest)*)?)
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

/// The type that requests are decoded into.
macro_rules! request_type {
    ($request:ident) => {
        $request
    };
    ($request:ident $view:ident) => {
        $view
    };
}

pub(crate) use {api, default, field, info, request_type, structure};
