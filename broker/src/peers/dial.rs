//! A link that this node sends on.
//!
//! Absent on purpose: dialling again, which `Node` asks for.

use super::complaints::Complaints;
use super::frames::{Messages, write};
use super::transport::Transport;
use super::wires::{Outgoing, UNACKNOWLEDGED_TIME_MAX, Wire};
use super::{Dialled, Mailbox, PeerEvent, Queued};
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{Hello, HelloAnswer, LinkEnd, PeerMessage, Welcome};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a connect, the handshake of TLS and the answer to the hello may take together. A few
/// seconds: what is lost on the way is sent again after one second, and after three.
const DIAL_TIME_MAX: Duration = Duration::from_secs(4);
/// Messages that are taken off the queue for one write.
const MESSAGES_PER_WRITE_MAX: usize = 64;

/// What one attempt needs.
pub(super) struct Link {
    pub node: NodeId,
    pub attempt: u64,
    pub address: Arc<str>,
    pub hello: Hello,
    pub transport: Transport,
    /// In a process of several nodes: the way there.
    pub wire: Option<Wire>,
    pub events: Mailbox,
    pub complaints: Complaints<NodeId>,
}

/// Why there is no link.
#[derive(Debug, Error)]
enum NotDialled {
    /// Nobody is there, or not for long.
    #[error("{0}")]
    Lost(#[from] io::Error),
    /// Somebody is there, and not whom we look for.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// Too slow.
    #[error("no answer in time")]
    Late,
}

impl Link {
    /// Dials, says hello, and carries what waits until the link is lost.
    pub async fn run(self, queue: mpsc::UnboundedReceiver<Queued>) {
        let waiting = Outgoing::new(queue, self.wire.clone());
        let deadline = Instant::now() + DIAL_TIME_MAX;
        let outcome = match &self.transport {
            Transport::Plain => match by(deadline, async { Ok(self.connect().await?) }).await {
                Ok(stream) => self.converse(stream, deadline, waiting).await,
                Err(error) => Err(error),
            },
            Transport::Encrypted(tls) => {
                let encrypted = async {
                    let stream = self.connect().await?;
                    tls.dial(self.node, stream).await.map_err(NotDialled::Handshake)
                };
                match by(deadline, encrypted).await {
                    Ok(stream) => self.converse(stream, deadline, waiting).await,
                    Err(error) => Err(error),
                }
            }
        };
        let outcome = outcome.unwrap_or_else(|error| {
            self.log(&error);
            Dialled::Down
        });
        self.tell(outcome).await;
    }

    /// A peer that is away comes back; what another certificate must mend is for somebody to read.
    fn log(&self, error: &NotDialled) {
        let is_for_tls = |error: &io::Error| {
            error.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some())
        };
        let needs_help = match error {
            NotDialled::Handshake(_) => true,
            // In TLS 1.3 the acceptor judges our certificate when our handshake is over.
            NotDialled::Lost(error) => is_for_tls(error),
            NotDialled::Late => false,
        };
        let (node, address) = (self.node, &*self.address);
        if needs_help && self.complaints.is_news(node, &error.to_string(), Instant::now()) {
            tracing::warn!(%node, address, %error, "no link to a peer");
        } else {
            tracing::debug!(%node, address, %error, "no link to a peer");
        }
    }

    async fn tell(&self, outcome: Dialled) {
        let (node, attempt) = (self.node, self.attempt);
        // The shard has gone when nobody hears it.
        let _ = self.events.put(PeerEvent::Dialled { node, attempt, outcome }, 0).await;
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self.wire.clone() {
            None => TcpStream::connect(&*self.address).await?,
            Some(mut wire) => {
                wire.pass().await;
                TcpStream::connect(wire.door().await).await?
            }
        };
        stream.set_nodelay(true)?;
        // TCP alone would wait ever longer between its attempts, and a peer that can be reached
        // again would not be reached for as long as it could not be.
        #[cfg(target_os = "linux")]
        {
            let limit_ms = u32::try_from(UNACKNOWLEDGED_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
            rustix::net::sockopt::set_tcp_user_timeout(&stream, limit_ms)?;
        }
        Ok(stream)
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        deadline: Instant,
        mut waiting: Outgoing,
    ) -> Result<Dialled, NotDialled> {
        match by(deadline, self.greet(stream)).await? {
            (link, HelloAnswer::Welcome(welcome)) => {
                self.complaints.settle(&self.node);
                self.carry(link, welcome, &mut waiting).await;
                Ok(Dialled::Down)
            }
            (_, HelloAnswer::Refused(refusal)) => {
                let reason = refusal.text.as_str();
                if self.complaints.is_news(self.node, reason, Instant::now()) {
                    tracing::warn!(node = %self.node, reason, "a peer refuses our link");
                }
                Ok(Dialled::Refused(refusal))
            }
        }
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
    ) -> Result<(Messages<S>, HelloAnswer), NotDialled> {
        write(&mut stream, &[PeerMessage::Hello(self.hello.clone())]).await?;
        let mut messages = Messages::new(stream, LinkEnd::Dialler);
        match messages.next().await? {
            Some(PeerMessage::HelloAnswer(answer)) => Ok((messages, answer)),
            Some(_) | None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut link: Messages<S>,
        welcome: Welcome,
        waiting: &mut Outgoing,
    ) {
        self.tell(Dialled::Welcomed(welcome)).await;
        let mut taken: Vec<Queued> = Vec::new();
        loop {
            tokio::select! {
                count = waiting.take(&mut taken, MESSAGES_PER_WRITE_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                // The other side says nothing on this link, so whatever comes is its end.
                _ = link.next() => return,
            }
            // They count as waiting until they have left.
            let (messages, held): (Vec<_>, Vec<_>) =
                taken.drain(..).map(|queued| (queued.message, queued.held)).unzip();
            if let Err(error) = write(link.stream_mut(), &messages).await {
                tracing::debug!(node = %self.node, %error, "a link is lost");
                return;
            }
            drop(held);
        }
    }
}

async fn by<T>(
    deadline: Instant,
    doing: impl Future<Output = Result<T, NotDialled>>,
) -> Result<T, NotDialled> {
    tokio::time::timeout_at(deadline, doing).await.unwrap_or(Err(NotDialled::Late))
}
