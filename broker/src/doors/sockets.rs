//! Sockets of the doors: an address, and its twin on `[::1]` where the listener is for
//! `localhost`.
//!
//! Absent on purpose: accepting, which each door does under its own limits.

use crate::config::Listener;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4_096;
/// How often a free port is looked for that both loopback addresses have.
const TWIN_PORT_TRIES: usize = 16;

/// Binds TCP sockets; see [`bind_twins`].
pub(crate) fn bind_both(
    listener: &Listener,
) -> io::Result<(TcpListener, Option<TcpListener>, SocketAddr)> {
    bind_twins(listener, |address| {
        let socket = bind(address)?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    })
}

/// Binds the listener and, where it has one, its twin with the same port on `[::1]`.
///
/// - `bind`: binds one socket, and says where.
pub(crate) fn bind_twins<S>(
    listener: &Listener,
    mut bind: impl FnMut(SocketAddr) -> io::Result<(S, SocketAddr)>,
) -> io::Result<(S, Option<S>, SocketAddr)> {
    let tries = if listener.address.port() == 0 { TWIN_PORT_TRIES } else { 1 };
    let mut taken = None;
    for _ in 0..tries {
        let (socket, local) = bind(listener.address)?;
        let Some(paired) = listener.paired(local.port()) else {
            return Ok((socket, None, local));
        };
        match bind(paired) {
            Ok((twin, _)) => return Ok((socket, Some(twin), local)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = Some(error),
            // A machine without IPv6 has no twin.
            Err(error) => {
                tracing::debug!(%error, %paired, "the loopback twin is not bound");
                return Ok((socket, None, local));
            }
        }
    }
    Err(taken.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(named)?;
    socket.set_reuseaddr(true).map_err(named)?;
    socket.bind(address).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_loopback_addresses_have_the_port_that_was_free() {
        let listener: Listener = "localhost:0".parse().expect("it is a listener");
        let (_socket, twin, local) = bind_both(&listener).expect("there is a free port");
        assert_ne!(local.port(), 0);
        if let Some(twin) = twin {
            let six = twin.local_addr().expect("it is bound");
            assert_eq!((six.port(), six.is_ipv6()), (local.port(), true));
        }
        let taken = bind(local).expect_err("the port is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(taken.to_string().contains(&local.to_string()), "{taken}");
    }
}
