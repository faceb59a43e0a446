//! What a connection reads from and writes to: a socket, or TLS over one.
//!
//! The connection is compiled once for each, so that plaintext pays nothing for TLS.
//!
//! Invariants
//! - A handshake takes at most [`HANDSHAKE`], outside of the accept loop, and at most
//!   [`HANDSHAKES_MAX`] run at once.
//!
//! Absent on purpose: guessing whether a client speaks TLS. A door is encrypted or it is not.

use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// TLS handshakes at once. Who comes when there are so many is closed at once.
pub const HANDSHAKES_MAX: usize = 1_024;

/// A stream of bytes that tells when it has some.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Whether bytes may stay inside after a write, until they are flushed.
    const HOLDS_BYTES: bool;

    /// Ready when a read would likely find something, or an end. It makes no room for it.
    fn poll_readable(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Transport for TcpStream {
    const HOLDS_BYTES: bool = false;

    fn poll_readable(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(task)
    }
}

impl Transport for TlsStream<TcpStream> {
    const HOLDS_BYTES: bool = true;

    fn poll_readable(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, session) = self.get_mut();
        // What has been decrypted and not been read makes no socket readable.
        let state = session.process_new_packets();
        let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
            return Poll::Ready(Ok(()));
        }
        socket.poll_read_ready(task)
    }
}

/// Why there is no encrypted connection.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The client does not speak TLS, or not as it has to.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
    /// It does so too slowly.
    #[error("the TLS handshake took longer than {} s", HANDSHAKE.as_secs())]
    TooSlow,
    /// The node stops.
    #[error("the node stops")]
    Stopped,
}

/// The server's half of the handshake.
///
/// - `stop`: becomes true when the node stops.
pub async fn handshake(
    socket: TcpStream,
    tls: Arc<ServerConfig>,
    stop: &mut watch::Receiver<bool>,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err(HandshakeError::Stopped),
        done = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(socket)) => {
            Ok(done.map_err(|_| HandshakeError::TooSlow)??)
        }
    }
}
