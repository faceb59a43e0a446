//! The doors: each turns one wire protocol into what [`Broker`](crate::api::Broker) is asked.
//!
//! ```text
//!   socket ──> listener ──> session (sans-IO) ──> convert ──> Broker
//! ```
//!
//! | file | what all doors share |
//! |---|---|
//! | `admission` | who is let in |
//! | `budget` | memory of requests |
//! | `codes` | errors and their codes |
//! | `words` | offsets, nodes and texts on any wire |
//! | `outgoing` | replies that wait to be written |
//! | `sockets` | binding, with the twin of a loopback address |
//!
//! Absent on purpose: any rule. A door may translate; it may not decide.

pub mod admission;
pub mod budget;
pub mod codes;
pub mod http;
pub mod kafka;
pub mod native;
mod outgoing;
pub(crate) mod sockets;
mod words;

use crate::config::Limits;
use admission::Admission;
use budget::Budget;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use tokio::task::JoinError;
use tokio::time::Instant;

/// What the doors of one node have together: places for connections, and memory for requests.
/// Clones share both.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Memory for requests.
    pub budget: Budget,
    /// Places for connections.
    pub admission: Arc<Mutex<Admission>>,
}

impl Capacity {
    /// As the configuration has it, and nothing of it taken.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let admission = Arc::new(Mutex::new(Admission::new(limits, Instant::now())));
        Self { budget: Budget::new(limits.request_memory_bytes_max), admission }
    }
}

/// The address that a client is told of a node to which it came at `local`, bound to `bound`. One
/// node has one name: a client of this machine is told `127.0.0.1` wherever that is bound, also
/// when it came over `::1`.
fn told_ip(local: IpAddr, bound: IpAddr) -> IpAddr {
    let local = local.to_canonical();
    let four = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let is_four_bound = bound == four || bound.is_unspecified();
    if local.is_loopback() && is_four_bound { four } else { local }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was closed by a fault in this program");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_this_machine_is_told_ipv4_wherever_that_is_bound() {
        for (local, bound, told) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0", "127.0.0.1"),
            ("::ffff:127.0.0.1", "::", "127.0.0.1"),
            ("::1", "::", "127.0.0.1"),
            ("::1", "::1", "::1"),
            ("192.0.2.7", "0.0.0.0", "192.0.2.7"),
            ("::ffff:192.0.2.7", "::", "192.0.2.7"),
        ] {
            let address = |text: &str| text.parse::<IpAddr>().expect("a literal address");
            let found = told_ip(address(local), address(bound));
            assert_eq!(found, address(told), "through {local} to {bound}");
        }
    }
}
