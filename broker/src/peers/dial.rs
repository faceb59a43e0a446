//! A link that this node sends on.
//!
//! Absent on purpose: dialling again, which `Node` asks for.

use super::frames::{Messages, write};
use super::{Dialled, Mailbox, PeerEvent, Queued};
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{Hello, HelloAnswer, LinkEnd, PeerMessage, Welcome};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How long a connect and the answer to the hello may take. A few seconds: what is lost on the
/// way is sent again after one second, and after three.
const DIAL_TIME_MAX: Duration = Duration::from_secs(4);
/// How long what was sent may stay without the kernel's acknowledgement before the link is lost.
/// TCP alone would wait ever longer between its attempts, and a peer that can be reached again
/// would not be reached for as long as it could not be.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS_MAX: u32 = 3_000;
/// Messages that are taken off the queue for one write.
const MESSAGES_PER_WRITE_MAX: usize = 64;

/// What one attempt needs.
pub(super) struct Link {
    pub node: NodeId,
    pub attempt: u64,
    pub address: Arc<str>,
    pub hello: Hello,
    pub events: Mailbox,
}

impl Link {
    /// Dials, says hello, and carries what waits until the link is lost.
    pub async fn run(self, mut waiting: mpsc::UnboundedReceiver<Queued>) {
        let outcome = match tokio::time::timeout(DIAL_TIME_MAX, self.open()).await {
            Ok(Ok((stream, HelloAnswer::Welcome(welcome)))) => {
                self.carry(stream, welcome, &mut waiting).await;
                Dialled::Down
            }
            Ok(Ok((_, HelloAnswer::Refused(refusal)))) => {
                let reason = refusal.text.as_str();
                tracing::warn!(node = %self.node, reason, "a peer refuses our link");
                Dialled::Refused(refusal)
            }
            Ok(Err(error)) => {
                tracing::debug!(node = %self.node, address = %self.address, %error, "not dialled");
                Dialled::Down
            }
            Err(_) => {
                tracing::debug!(node = %self.node, address = %self.address, "no answer in time");
                Dialled::Down
            }
        };
        self.tell(outcome).await;
    }

    async fn tell(&self, outcome: Dialled) {
        let (node, attempt) = (self.node, self.attempt);
        // The shard has gone when nobody hears it.
        let _ = self.events.put(PeerEvent::Dialled { node, attempt, outcome }, 0).await;
    }

    async fn open(&self) -> io::Result<(Messages<TcpStream>, HelloAnswer)> {
        let mut stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX)?;
        write(&mut stream, &[PeerMessage::Hello(self.hello.clone())]).await?;
        let mut messages = Messages::new(stream, LinkEnd::Dialler);
        match messages.next().await? {
            Some(PeerMessage::HelloAnswer(answer)) => Ok((messages, answer)),
            Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut link: Messages<S>,
        welcome: Welcome,
        waiting: &mut mpsc::UnboundedReceiver<Queued>,
    ) {
        self.tell(Dialled::Welcomed(welcome)).await;
        let mut taken: Vec<Queued> = Vec::new();
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut taken, MESSAGES_PER_WRITE_MAX) => {
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
