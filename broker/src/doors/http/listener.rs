//! The sockets of the HTTP door: binding, accepting, draining.
//!
//! Invariants
//! - A connection that panics ends alone.
//! - Draining closes idle connections at once and lets requests that run be answered.
//! - The door has places of its own: a node whose other places are taken still says how it is.
//!
//! Absent on purpose: addresses to tell others. Nobody finds this door through the cluster.

use super::service::{self, Ends};
use super::timed::Timed;
use super::{CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_TIME_MAX, HEADERS_MAX, STALL_TIME_MAX};
use crate::config::Listener;
use crate::controls::Door;
use crate::doors::kafka::stream::handshake;
use crate::doors::note_end;
use crate::doors::sockets::bind_both;
use crate::node::NodeControl;
use crate::tls::Tls;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open door: bound, and not yet answering.
#[derive(Debug)]
pub struct HttpDoor {
    listener: TcpListener,
    /// The same port of `[::1]`, where the listener is for `localhost`.
    twin: Option<TcpListener>,
    local_address: SocketAddr,
    tls: Option<Tls>,
}

impl HttpDoor {
    /// Binds the door's sockets. To be called inside of a runtime.
    ///
    /// - `listener`: `config.listeners.http`, where it is not off.
    /// - `tls`: with it, all connections are encrypted.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(listener: &Listener, tls: Option<&Tls>) -> io::Result<Self> {
        let (listener, twin, local_address) = bind_both(listener)?;
        Ok(Self { listener, twin, local_address, tls: tls.cloned() })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Answers until `stop` becomes true, then finishes what runs. Dropping the future closes
    /// every connection at once.
    ///
    /// - `node`: whom the answers are about. It may be starting, and it may start again.
    pub async fn run(self, node: NodeControl, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let connection_stop = stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    note_end(ended);
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if connections.len() >= CONNECTIONS_MAX {
                tracing::debug!(%peer, "an HTTP connection was refused: too many are open");
                continue;
            }
            let Ok(local) = stream.local_addr() else { continue };
            let ends = Ends { peer, local: local.ip() };
            let (node, stop) = (node.clone(), connection_stop.clone());
            let tls = self.tls.as_ref().map(Tls::http);
            connections.spawn(async move {
                let counted = node.broker().map(|broker| broker.connected(Door::Http));
                match tls {
                    None => converse(stream, ends, node, stop).await,
                    Some(tls) => converse_encrypted(stream, tls, ends, node, stop).await,
                }
                drop(counted);
            });
        }
        // Who connects from now on is refused by the kernel.
        drop((self.listener, self.twin));
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(twin) = &self.twin else { return self.listener.accept().await };
        tokio::select! {
            accepted = self.listener.accept() => accepted,
            accepted = twin.accept() => accepted,
        }
    }
}

/// Gives a connection its TLS first.
async fn converse_encrypted(
    socket: TcpStream,
    tls: Arc<ServerConfig>,
    ends: Ends,
    node: NodeControl,
    mut stop: watch::Receiver<bool>,
) {
    match handshake(socket, tls, &mut stop).await {
        Ok(stream) => converse(stream, ends, node, stop).await,
        Err(error) => {
            tracing::debug!(peer = %ends.peer, %error, "an HTTP connection was closed");
        }
    }
}

/// One connection, until its peer, a deadline or the door ends it.
async fn converse<S>(stream: S, ends: Ends, node: NodeControl, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(service::serve(&node, ends, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX * 2)
        .serve_connection(TokioIo::new(Timed::new(stream, STALL_TIME_MAX)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %ends.peer, %error, "an HTTP connection has ended");
    }
}
