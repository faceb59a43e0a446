//! From a frame to a typed request, or to the reason why there is none.
//!
//! | what came | what the door does |
//! |---|---|
//! | a request | answers it, in order |
//! | an unknown version of the API that negotiates | answers `UNSUPPORTED_VERSION` at version 0 |
//! | an unknown API, another unknown or unserved version, a malformed body | closes |
//!
//! Bytes behind a request are ignored, as Kafka ignores them.
//!
//! Absent on purpose: which APIs may be used before authentication.

use super::api::{ApiKey, Request};
use super::header::{RequestHeader, header_reader};
use crate::wire::error::DecodeError;
use bytes::Bytes;
use thiserror::Error;

/// Why a frame is no request.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// The client asks which versions there are, at one that this build lacks. Answer with the
    /// versions there are, in the form of version 0 (KIP-511); the body was not looked at.
    #[error("{api} v{version} asked for, v{min} to v{max} served: answered at v0")]
    Negotiate {
        /// The API that negotiates.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// Lowest version there is.
        min: i16,
        /// Highest version there is.
        max: i16,
        /// To be given back in the answer.
        correlation_id: i32,
    },
    /// An API that is not advertised. Close the connection.
    #[error("API key {key} v{version} is not served")]
    UnknownApi {
        /// Kafka's number of the API.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// A version that is not advertised. Close the connection.
    #[error("{api} v{version} asked for, v{min} to v{max} advertised")]
    UnknownVersion {
        /// The API asked for.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// Lowest version advertised.
        min: i16,
        /// Highest version advertised.
        max: i16,
    },
    /// A version that is advertised for the sake of old clients, but that nobody may use. Close
    /// the connection.
    #[error("{api} v{version} is advertised but not served; v{min} to v{max} are")]
    NotServed {
        /// The API asked for.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// Lowest version served.
        min: i16,
        /// Highest version served.
        max: i16,
    },
    /// A header or a body that cannot be decoded. Close the connection.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Decodes one frame, given without its length.
///
/// Cost: strings and bytes are slices of the frame. Memory: at most 32 times the frame's bytes
/// plus 64 KiB, and nothing at all for requests that carry or ask for records.
///
/// # Errors
/// [`RequestError`]; only [`RequestError::Negotiate`] has an answer.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    decode_request_charged(frame).map(|(header, request, _)| (header, request))
}

/// Decodes one frame as [`decode_request`] does, and says what the request holds in memory beside
/// the frame, in bytes: what a connection's budget is charged for it.
///
/// # Errors
/// As [`decode_request`].
pub fn decode_request_charged(
    frame: Bytes,
) -> Result<(RequestHeader, Request, usize), RequestError> {
    let mut reader = header_reader(frame);
    let mut header = RequestHeader::decode_start(&mut reader)?;
    let version = header.api_version;
    let Some(api) = ApiKey::from_number(header.api_key) else {
        return Err(RequestError::UnknownApi { key: header.api_key, version });
    };
    let info = api.info();
    if !info.serves(version) {
        let (min, max) = (info.version_min, info.version_max);
        return Err(if info.negotiates {
            let correlation_id = header.correlation_id;
            RequestError::Negotiate { api, version, min, max, correlation_id }
        } else if info.advertises(version) {
            RequestError::NotServed { api, version, min: info.served_min, max }
        } else {
            RequestError::UnknownVersion { api, version, min, max }
        });
    }
    header.decode_rest(info, &mut reader)?;
    let request = Request::decode(api, &mut reader)?;
    Ok((header, request, reader.memory()))
}
