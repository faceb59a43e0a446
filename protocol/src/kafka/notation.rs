//! The notation in which an API is described, and the codec that follows from it.
//!
//! ```text
//! api! {
//!     /// What the API is for.
//!     Example = 99 [versions 0..=5, flexible 4];      its key, what is advertised, KIP-482
//!
//!     request ExampleRequest {
//!         group_id: Text,                      in every version, never null
//!         instance_id: Option<Text> [3..],     since version 3, may be null
//!         members: Vec<Member> [3..=4],               versions 3 and 4
//!         wait_ms: i32 [1.., ignorable] = -1,         default -1; left out below version 1
//!     }
//!     response ExampleResponse { … }
//!     struct Member { … }                             structures that the two hold
//! }
//! ```
//!
//! Fields are described as in [`crate::wire::notation`]. Behind the API's key: `versions a..=b`
//! (advertised), `served c..` (where refused versions are advertised), `flexible n` or `flexible
//! never`, `negotiates` (the one API whose unknown versions are answered, KIP-511). `decoded as
//! View` names a hand-written type that requests are decoded into instead.
//!
//! From this follow the types and codecs of its structures, and in tests the link to the
//! independent decoder.
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

        $crate::wire::notation::structure! {
            $(#[$request_doc])*
            #[doc = concat!("Request of `", stringify!($api), "`.")]
            $request { $($request_fields)* }
        }

        $crate::wire::notation::structure! {
            $(#[$response_doc])*
            #[doc = concat!("Answer to `", stringify!($api), "`.")]
            $response { $($response_fields)* }
        }

        $($crate::wire::notation::structure! {
            $(#[$struct_doc])*
            #[doc = concat!("Part of `", stringify!($api), "`.")]
            $struct { $($struct_fields)* }
        })*
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

/// The type that requests are decoded into.
macro_rules! request_type {
    ($request:ident) => {
        $request
    };
    ($request:ident $view:ident) => {
        $view
    };
}

pub(crate) use {api, info, request_type};
