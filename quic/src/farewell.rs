//! Ending without waiting for QUIC's own long good-bye.
//!
//! A closed connection drains for three probe timeouts (RFC 9000 §10.2), a tenth of a second on
//! loopback and far more on a bad path. Its socket stays open for so long. Nobody has to wait for
//! that: the peer is told by the first packet.
//!
//! Absent on purpose: a second attempt. A peer that the packet does not reach notices the silence.

use quinn::{Connection, Endpoint};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// How long a closing packet may need to leave.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

/// Between two looks at whether it has left.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// A connection that is about to be closed.
///
/// quinn counts no closing frames that it sends, but datagrams: behind `close` the next one bears
/// the news.
#[derive(Debug)]
#[must_use = "what was said last leaves only while somebody drives the endpoint"]
pub struct Farewell {
    connection: Connection,
    datagrams_before: u64,
}

impl Farewell {
    /// Remembers what has been sent. To be called before the connection is closed.
    pub fn before_close(connection: &Connection) -> Self {
        let datagrams_before = connection.stats().udp_tx.datagrams;
        Self { connection: connection.clone(), datagrams_before }
    }

    /// Waits until the packet that closes the connection has left, 100 ms at most.
    pub async fn has_left(self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        yield_now().await;
        while self.connection.stats().udp_tx.datagrams == self.datagrams_before
            && Instant::now() < deadline
        {
            sleep(LOOK_PERIOD).await;
        }
    }
}

/// Gives the endpoint's port back, though closed connections still drain: they go on on a port of
/// their own, where nobody is heard any more.
pub fn release(endpoint: &Endpoint) {
    let is_four = endpoint.local_addr().is_ok_and(|address| address.is_ipv4());
    let any: SocketAddr = match is_four {
        true => (Ipv4Addr::LOCALHOST, 0).into(),
        false => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    // quinn listens on the last socket until something comes on the new one, so that it takes two
    // to be rid of the first. Where there is no port to be had, it is kept a little longer.
    for _ in 0..2 {
        if let Ok(socket) = UdpSocket::bind(any) {
            let _ = endpoint.rebind(socket);
        }
    }
}
