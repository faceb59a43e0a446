//! Every message at every version, against an independent decoder and against damage.
//!
//! ```text
//!   sample (from the notation) ─► our bytes ─► the other decoder ─► same fields by name and value
//!        ▲                            ▲               │
//!        └── our decoder ◄────────────┴── its bytes ◄─┘            same bytes
//! ```
//!
//! Absent on purpose: memory, which `tests/allocation.rs` measures from outside.

pub(crate) mod damage;
mod debug_tree;
pub(crate) mod frames;
mod oracle;

use super::api::Api;
pub(crate) use crate::wire::tests::{Sample, Source};
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// An API together with its types in the independent decoder. The notation implements it.
pub(crate) trait Compared:
    Api<PlainRequest: Sample + PartialEq + Debug, Response: Sample + PartialEq + Debug>
{
    /// The request there.
    type OracleRequest: kafka_wire::KafkaRequest + Debug;
    /// The answer there.
    type OracleResponse: kafka_wire::KafkaResponse + Debug;
}

/// Something to be done with every API of the table.
pub(crate) trait Visitor {
    /// Does it with one.
    fn visit<A: Compared>(&mut self);
}

/// Versions that an API serves.
pub(crate) fn served(info: &super::ApiInfo) -> RangeInclusive<i16> {
    info.served_min..=info.version_max
}
