//! UDP sockets with room for bursts, and the endpoint on top.
//!
//! With the kernel's 208 KiB a receiver lost thousands of packets in a second of bulk, with 4 MiB
//! none. A kernel gives what its administrator allows, so what it gave is read back and told.
//!
//! Absent on purpose: one socket per core. A client that changes its port is found by its
//! connection id, and that needs one endpoint per address.

use crate::receive::GatheredSocket;
use crate::secret::EndpointSecret;
use crate::settings::{Settings, endpoint_config};
use quinn::{Endpoint, Runtime, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

/// Room that the kernel gave to a socket, in bytes as they were asked for (Linux counts its own
/// overhead and reports twice as much).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketBuffers {
    /// What was asked for in each direction.
    pub wanted_bytes: usize,
    /// `SO_RCVBUF`.
    pub receive_bytes: usize,
    /// `SO_SNDBUF`.
    pub send_bytes: usize,
}

impl SocketBuffers {
    /// Whether the kernel gave less than was asked for: then bulk loses packets, and the
    /// administrator is to be told ([`fmt::Display`] says what to do).
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.receive_bytes.min(self.send_bytes) < self.wanted_bytes
    }
}

impl fmt::Display for SocketBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted_bytes, receive_bytes, send_bytes } = self;
        write!(f, "UDP buffers: {receive_bytes} bytes to receive, {send_bytes} to send")?;
        if self.is_short() {
            write!(
                f,
                ", {wanted_bytes} wanted; packets will be lost under load. Raise the limits"
            )?;
            write!(f, ": sysctl -w net.core.rmem_max={wanted_bytes}")?;
            write!(f, " net.core.wmem_max={wanted_bytes}")?;
        }
        Ok(())
    }
}

/// Binds a UDP socket with buffers of `settings.socket_buffer_bytes`. Port 0 is any free port;
/// `[::]` takes IPv4 as well.
///
/// Errors: the address is taken or is none of this machine; the text names it.
pub fn bind(address: SocketAddr, settings: &Settings) -> io::Result<(UdpSocket, SocketBuffers)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}/udp: {error}"));
    bind_socket(address, settings).map_err(named)
}

fn bind_socket(address: SocketAddr, settings: &Settings) -> io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    let wanted = usize::try_from(settings.socket_buffer_bytes).unwrap_or(usize::MAX);
    // Refused on some systems above a limit: what is there is read below.
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    let told_per_byte = if cfg!(target_os = "linux") { 2 } else { 1 };
    let buffers = SocketBuffers {
        wanted_bytes: wanted,
        receive_bytes: socket.recv_buffer_size()? / told_per_byte,
        send_bytes: socket.send_buffer_size()? / told_per_byte,
    };
    socket.bind(&address.into())?;
    Ok((socket.into(), buffers))
}

/// An endpoint on a socket of [`bind`]. To be called inside of a tokio runtime.
///
/// - `server`: of [`crate::server_config`]; `None` for an endpoint that only connects.
///
/// Errors: a setting outside of its range (`InvalidInput`), or the socket cannot be driven.
pub fn endpoint(
    socket: UdpSocket,
    server: Option<quinn::ServerConfig>,
    settings: &Settings,
) -> io::Result<Endpoint> {
    open(socket, server, settings, None)
}

/// As [`endpoint`], for one that serves under the same name after a restart.
///
/// - `secret`: what it keeps over restarts.
///
/// Errors: those of [`endpoint`].
pub fn lasting_endpoint(
    socket: UdpSocket,
    server: quinn::ServerConfig,
    settings: &Settings,
    secret: &EndpointSecret,
) -> io::Result<Endpoint> {
    open(socket, Some(server), settings, Some(secret))
}

fn open(
    socket: UdpSocket,
    server: Option<quinn::ServerConfig>,
    settings: &Settings,
    secret: Option<&EndpointSecret>,
) -> io::Result<Endpoint> {
    let config = endpoint_config(settings, secret)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let runtime = Arc::new(TokioRuntime);
    let socket = GatheredSocket::new(runtime.wrap_udp_socket(socket)?, settings.mtu_bytes_max);
    Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn what_the_kernel_gave_is_known() {
        let settings = Settings { socket_buffer_bytes: 64 * 1024, ..Settings::default() };
        let (socket, buffers) = bind(loopback(0), &settings).expect("loopback has free ports");
        assert_ne!(socket.local_addr().expect("it is bound").port(), 0);
        assert_eq!((buffers.receive_bytes, buffers.send_bytes), (64 * 1024, 64 * 1024));
        assert!(!buffers.is_short());
        assert_eq!(buffers.to_string(), "UDP buffers: 65536 bytes to receive, 65536 to send");
    }

    #[test]
    fn a_kernel_that_gave_too_little_is_named_with_the_remedy() {
        let buffers = SocketBuffers {
            wanted_bytes: 4_194_304,
            receive_bytes: 212_992,
            send_bytes: 4_194_304,
        };
        assert!(buffers.is_short());
        let text = buffers.to_string();
        assert!(text.contains("212992 bytes to receive"), "{text}");
        assert!(text.contains("sysctl -w net.core.rmem_max=4194304"), "{text}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let (socket, _) = bind(loopback(0), &Settings::default()).expect("a free port");
        let taken = socket.local_addr().expect("it is bound");
        let error = bind(taken, &Settings::default()).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("{taken}/udp: ")), "{error}");
    }
}
