//! Wire to [`Broker`](crate::api::Broker) and back, one file per family of messages.
//!
//! Topics are ids on the wire; where core wants names they are looked up here. Every error of ours
//! has its code in [`codes`](crate::doors::codes), and its own text.
//!
//! Absent on purpose: rules, retries and routing.

pub mod admin;
pub mod cluster;
pub mod groups;
pub mod nodes;
pub mod positions;
pub mod records;

use super::session::error;
use crate::doors::codes;
use crate::readers::FetchError;
use bateau_core::controller::ControllerError;
use bateau_protocol::native::ErrorReply;

/// A request that the controller did not decide.
fn controller_error(found: &ControllerError) -> ErrorReply {
    error(codes::controller(found, true), found.to_string())
}

/// A partition that cannot be found or read, with the log's ends where they help.
pub fn fetch_error(found: &FetchError) -> ErrorReply {
    let mut refusal = error(codes::fetch(found), found.to_string());
    if let FetchError::OffsetOutOfRange { start, end, .. } = found {
        refusal.log_start = crate::doors::words::wire_offset(*start);
        refusal.high_watermark = crate::doors::words::wire_offset(*end);
    }
    refusal
}
