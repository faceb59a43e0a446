//! The peers listener: links that other nodes send on.
//!
//! Invariants
//! - A link is heard only after its hello was answered with a welcome, and only as the node that
//!   the hello named.
//!
//! Absent on purpose: who is welcome, which `Node` decides.

use super::frames::{Messages, write};
use super::{Answered, Mailbox, PeerEvent};
use crate::config::Listener;
use crate::doors::sockets::bind_both;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{
    HelloAnswer, LinkEnd, PeerAnswer, PeerMessage, PeerRequest, RaftMessage,
};
use bateau_storage::{Said, said};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How long the hello may take.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// Links that may be open: a few of each node that a cluster may have.
const LINKS_MAX: usize = 1_024;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open listener: bound, and not yet answering.
#[derive(Debug)]
pub struct PeersDoor {
    listener: TcpListener,
    twin: Option<TcpListener>,
    local_address: SocketAddr,
}

impl PeersDoor {
    /// Binds the sockets. To be called inside of a runtime.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(listener: &Listener) -> io::Result<Self> {
        let (listener, twin, local_address) = bind_both(listener)?;
        Ok(Self { listener, twin, local_address })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Accepts until `stop` becomes true. Dropping the future closes every link at once.
    pub async fn run(self, events: Mailbox, mut stop: watch::Receiver<bool>) {
        let mut links = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(ended) = links.join_next() => {
                    note_end(ended);
                    continue;
                }
                accepted = self.accept(), if links.len() < LINKS_MAX => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    links.spawn(hear(stream, peer, events.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.twin {
            None => self.listener.accept().await,
            Some(twin) => tokio::select! {
                accepted = self.listener.accept() => accepted,
                accepted = twin.accept() => accepted,
            },
        }
    }
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a peer's link has panicked");
    }
}

async fn hear(stream: TcpStream, peer: SocketAddr, events: Mailbox) {
    let heard = async {
        stream.set_nodelay(true)?;
        let mut link = Messages::new(stream, LinkEnd::Acceptor);
        match tokio::time::timeout(HELLO_TIME_MAX, greet(&mut link, &events)).await {
            Ok(Ok(Some((node, number)))) => listen(&mut link, (node, number), &events).await,
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no hello in time")),
        }
    };
    if let Err(error) = heard.await {
        tracing::info!(%peer, %error, "a peer's link has ended");
    }
}

/// Hears the hello and answers it. `None`: it was refused, or the node stops.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Messages<S>,
    events: &Mailbox,
) -> io::Result<Option<(NodeId, u64)>> {
    let Some(PeerMessage::Hello(hello)) = link.next().await? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is no Hello"));
    };
    let node = hello.node_id;
    let (answer, answered) = oneshot::channel();
    if !events.put(PeerEvent::Hello { hello, answer }, 0).await {
        return Ok(None);
    }
    let Ok(Answered { link: number, answer }) = answered.await else { return Ok(None) };
    let is_welcome = matches!(answer, HelloAnswer::Welcome(_));
    if let HelloAnswer::Refused(refusal) = &answer {
        tracing::warn!(%node, reason = refusal.text.as_str(), "a peer's link is refused");
    }
    write(link.stream_mut(), &[PeerMessage::HelloAnswer(answer)]).await?;
    Ok(is_welcome.then_some((node, number)))
}

/// Hands on what a welcome peer says, as fast as the shard takes it.
async fn listen<S: AsyncRead + Unpin>(
    link: &mut Messages<S>,
    (node, number): (NodeId, u64),
    events: &Mailbox,
) -> io::Result<()> {
    while let Some(message) = link.next().await? {
        let bytes = held_bytes(&message);
        let said = said(node, message);
        if matches!(said, Said::Nothing) {
            continue;
        }
        if !events.put(PeerEvent::Said { node, link: number, said }, bytes).await {
            return Ok(());
        }
    }
    Ok(())
}

/// About what a message holds in memory beside itself.
fn held_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::RaftBatch(messages) => messages.iter().map(RaftMessage::encoded_bytes).sum(),
        PeerMessage::SnapshotChunk(chunk) => chunk.bytes.len(),
        PeerMessage::Request { command: PeerRequest::Controller { payload, .. }, .. }
        | PeerMessage::Answer { result: PeerAnswer::Controller { payload }, .. } => payload.len(),
        PeerMessage::Leaderships(leaderships) => size_of_val(leaderships.leads.as_slice()),
        _ => 0,
    }
}
