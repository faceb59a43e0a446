//! The peers listener: links that other nodes send on.
//!
//! ```text
//!   accept ── place for a stranger ──> TLS ──> Hello ──> its node's certificate? ──> Node's word
//!                                                                                       │
//!                    frames, until the link ends; the place is free again <── Welcome ──┘
//! ```
//!
//! Invariants
//! - A link is heard only after its hello was answered with a welcome, and only as the node that
//!   the hello named; on an encrypted link the certificate names that node too (`I-TLS-2`).
//! - Who has not been welcomed yet is one of a bounded number, and for a bounded time.
//!
//! Absent on purpose: who is welcome, which `Node` decides.

use super::complaints::Complaints;
use super::frames::{Messages, write};
use super::transport::{Proof, Transport};
use super::wires::Wires;
use super::{Answered, Mailbox, PeerEvent};
use crate::config::{Limits, Listener};
use crate::doors::admission::{Admission, Admitted};
use crate::doors::sockets::bind_both;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{
    HelloAnswer, LinkEnd, PeerAnswer, PeerMessage, PeerRequest, RaftMessage, Refusal,
    RefusalReason, operator_text,
};
use bateau_storage::{Said, said};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a handshake of TLS may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the hello may take.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// Links that may be open: a few of each node that a cluster may have.
const LINKS_MAX: usize = 1_024;
/// Connections that have not been welcomed yet.
pub(super) const STRANGERS_MAX: u32 = 128;
/// Of them from one address, loopback excepted.
const STRANGERS_PER_ADDRESS_MAX: u32 = 16;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open listener: bound, and not yet answering.
#[derive(Debug)]
pub struct PeersDoor {
    listener: TcpListener,
    twin: Option<TcpListener>,
    local_address: SocketAddr,
    transport: Transport,
    /// In a process of several nodes: the ways, and whose door this is.
    wires: Option<(NodeId, Wires)>,
}

/// What all links of a listener have together.
#[derive(Clone, Debug)]
struct Hall {
    transport: Transport,
    wires: Option<(NodeId, Wires)>,
    events: Mailbox,
    complaints: Complaints<IpAddr>,
}

impl PeersDoor {
    /// Binds the sockets. To be called inside of a runtime.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(listener: &Listener, transport: Transport) -> io::Result<Self> {
        let (listener, twin, local_address) = bind_both(listener)?;
        Ok(Self { listener, twin, local_address, transport, wires: None })
    }

    /// Tells the other nodes of this process where `node` listens, and answers along the wires.
    pub fn use_wires(&mut self, node: NodeId, wires: Wires) {
        wires.note_door(node, self.local_address);
        self.wires = Some((node, wires));
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Accepts until `stop` becomes true. Dropping the future closes every link at once.
    pub async fn run(self, events: Mailbox, mut stop: watch::Receiver<bool>) {
        let (transport, complaints) = (self.transport.clone(), Complaints::new());
        let hall = Hall { transport, wires: self.wires.clone(), events, complaints };
        let strangers = Arc::new(Mutex::new(Admission::new(&of_strangers(), Instant::now())));
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
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match Admitted::enter(&strangers, peer.ip()) {
                Ok(place) => drop(links.spawn(hear(stream, peer, place, hall.clone()))),
                Err(refused) => hall.complain(peer, &refused.to_string()),
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

/// The limits of those who have not been welcomed yet.
fn of_strangers() -> Limits {
    Limits {
        connections_max: STRANGERS_MAX,
        connections_per_ip_max: Some(STRANGERS_PER_ADDRESS_MAX),
        ..Limits::default()
    }
}

impl Hall {
    /// Tells why somebody is not heard, once a minute for each reason.
    fn complain(&self, peer: SocketAddr, reason: &str) {
        if self.complaints.is_news(peer.ip(), reason, Instant::now()) {
            tracing::warn!(%peer, reason, "a peer's link is refused");
        }
    }
}

async fn hear(stream: TcpStream, peer: SocketAddr, place: Admitted, hall: Hall) {
    let heard = async {
        stream.set_nodelay(true)?;
        let tls = match &hall.transport {
            Transport::Plain => return converse(stream, Proof::Trusted, peer, place, &hall).await,
            Transport::Encrypted(tls) => tls,
        };
        match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
            Ok(Ok((stream, shown))) => {
                converse(stream, Proof::Certificate(shown), peer, place, &hall).await
            }
            Ok(Err(error)) => {
                hall.complain(peer, &format!("the TLS handshake failed: {error}"));
                Ok(())
            }
            Err(_) => {
                hall.complain(peer, "the TLS handshake did not end in time");
                Ok(())
            }
        }
    };
    if let Err(error) = heard.await {
        tracing::info!(%peer, %error, "a peer's link has ended");
    }
}

/// Greets whoever is there, and hears it if it is welcome.
///
/// - `place`: of a stranger; it is free again with the welcome.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    proof: Proof,
    peer: SocketAddr,
    place: Admitted,
    hall: &Hall,
) -> io::Result<()> {
    let mut link = Messages::new(stream, LinkEnd::Acceptor);
    let greeting = greet(&mut link, &proof, hall);
    match tokio::time::timeout(HELLO_TIME_MAX, greeting).await {
        Ok(Ok(Greeted::Welcome { node, number, closed })) => {
            let is_proved = proof.is_of(node).is_ok();
            assert!(is_proved, "I-TLS-2: a link is heard as a node whose certificate it lacks");
            drop(place);
            hall.complaints.settle(&peer.ip());
            let hears = listen(&mut link, (node, number), &hall.events);
            tokio::select! {
                ended = hears => ended,
                _ = closed => Ok(()),
            }
        }
        Ok(Ok(Greeted::Refused { node, reason })) => {
            hall.complain(peer, &format!("node {node}: {reason}"));
            Ok(())
        }
        Ok(Ok(Greeted::Stopped)) => Ok(()),
        Ok(Err(error)) => {
            hall.complain(peer, &format!("no hello: {error}"));
            Ok(())
        }
        Err(_) => {
            hall.complain(peer, "no hello in time");
            Ok(())
        }
    }
}

/// What a hello came to.
enum Greeted {
    /// This node is heard from now on, on the link of this number, until that is to be closed.
    Welcome { node: NodeId, number: u64, closed: oneshot::Receiver<()> },
    /// It has been told why not.
    Refused { node: NodeId, reason: String },
    /// This node stops.
    Stopped,
}

/// Hears the hello and answers it.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Messages<S>,
    proof: &Proof,
    hall: &Hall,
) -> io::Result<Greeted> {
    let Some(PeerMessage::Hello(hello)) = link.next().await? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is no Hello"));
    };
    let node = hello.node_id;
    let refused = |text: &str| Greeted::Refused { node, reason: text.to_owned() };
    let (greeted, answer) = match proof.is_of(node) {
        Ok(()) => {
            let (answer, answered) = oneshot::channel();
            if !hall.events.put(PeerEvent::Hello { hello, answer }, 0).await {
                return Ok(Greeted::Stopped);
            }
            let Ok(Answered { link: number, answer, closed }) = answered.await else {
                return Ok(Greeted::Stopped);
            };
            match &answer {
                HelloAnswer::Welcome(_) => (Greeted::Welcome { node, number, closed }, answer),
                HelloAnswer::Refused(refusal) => (refused(refusal.text.as_str()), answer),
            }
        }
        Err(not_named) => {
            let reason = RefusalReason::WrongCertificate;
            let text = operator_text(&not_named.to_string());
            (refused(text.as_str()), HelloAnswer::Refused(Refusal { reason, text }))
        }
    };
    if let Some((own, wires)) = &hall.wires {
        wires.way(*own, node).pass().await;
    }
    write(link.stream_mut(), &[PeerMessage::HelloAnswer(answer)]).await?;
    Ok(greeted)
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
