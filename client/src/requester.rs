//! Request and reply over topics: a call whose answer comes back as a record.
//!
//! ```text
//!   request ──> topic ──> a service (a group) ──> reply topic ──> the requester that asked
//! ```
//!
//! Invariant: the reply topic is read from its end before the first request is sent, so that no
//! reply is missed.
//!
//! Absent on purpose: sending a request again. Whether the service has seen it is not known.

use crate::admin::OffsetAt;
use crate::client::Client;
use crate::consumer::{Consumer, Delivery, Start};
use crate::error::{ConsumeError, ErrorKind, RequestError, SendError};
use crate::producer::Producer;
use crate::record::{Ack, Record};
use crate::request_reply::{CorrelationId, ReplyAddress, ReplyTo, Requests, TooManyRequests};
use fastrand::Rng;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

/// Why a request has no reply.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The request did not get into its topic.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No reply before the deadline. The service may have seen the request.
    #[error("no reply within {after_ms} ms; the request is in its topic")]
    NoReply {
        /// The deadline.
        after_ms: u64,
    },
    /// Too many requests wait already.
    #[error(transparent)]
    TooMany(#[from] TooManyRequests),
    /// The reply topic cannot be read.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

impl ReplyError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Send(error) => error.kind(),
            Self::NoReply { .. } => ErrorKind::TimedOut,
            Self::TooMany(_) => ErrorKind::Full,
            Self::Consume(error) => error.kind(),
        }
    }

    /// Whether the same request may be made again without being dealt with twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Send(error) => error.is_retryable(),
            Self::NoReply { .. } => false,
            Self::TooMany(_) => true,
            Self::Consume(error) => error.is_retryable(),
        }
    }

    /// Whether the service may have seen the request.
    #[must_use]
    pub const fn possibly_written(&self) -> bool {
        match self {
            Self::Send(error) => error.possibly_written(),
            Self::NoReply { .. } | Self::Consume(_) => true,
            Self::TooMany(_) => false,
        }
    }
}

type Reply = Result<Delivery, ReplyError>;

#[derive(Debug)]
struct Waiting {
    requests: Requests,
    senders: HashMap<CorrelationId, oneshot::Sender<Reply>>,
    over: Option<ConsumeError>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    alarm: Notify,
    closing: watch::Sender<bool>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes requests to the service behind one topic. Made by [`Client::requester`]; requests may be
/// made at the same time.
#[derive(Debug)]
pub struct Requester {
    producer: Producer,
    shared: Arc<Shared>,
}

impl Client {
    /// A requester: requests go to `topic`, replies come from `reply_topic`, which must exist. Many
    /// requesters may share it.
    ///
    /// # Errors
    /// [`ConsumeError`]: the reply topic does not exist, or cannot be read.
    ///
    /// Cancel-safe: dropping the future leaves nothing behind.
    pub async fn requester(
        &self,
        topic: impl Into<String>,
        reply_topic: impl Into<String>,
    ) -> Result<Requester, ConsumeError> {
        let reply_topic = reply_topic.into();
        let ends = self.admin().offsets(&reply_topic, OffsetAt::End).await;
        let ends = ends.map_err(|error| match error {
            crate::AdminError::Request(error) => error,
            error => RequestError::of_code(
                error.code().unwrap_or(crate::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                error.to_string(),
            ),
        })?;
        let mut reader = self.reader();
        for end in ends {
            let start = Start::Offset(end.offset.unwrap_or(0));
            reader = reader.partition_from(reply_topic.clone(), end.partition, start);
        }
        let consumer = reader.start().await?;
        let requests = Requests::new(ReplyAddress { topic: reply_topic, partition: None });
        let waiting = Waiting { requests, senders: HashMap::new(), over: None };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            alarm: Notify::new(),
            closing: watch::Sender::new(false),
        });
        self.cluster().runtime.spawn(receive(Arc::clone(&shared), consumer));
        Ok(Requester { producer: self.producer(topic), shared })
    }

    /// Answers a request that was delivered: sends `reply` to where the request wants it. `None`
    /// for a record that asks for no reply.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// Cancel-safe: a reply that is in the buffer is sent.
    pub async fn reply(
        &self,
        request: &Delivery,
        reply: impl Into<Record>,
    ) -> Result<Option<Ack>, SendError> {
        let Some(to) = ReplyTo::from_headers(&request.headers) else { return Ok(None) };
        let mut record = reply.into();
        record.headers.push(to.header());
        record.partition = to.partition.or(record.partition);
        let producer = self.producer(to.topic).auto_create(false);
        producer.send(record).await.map(Some)
    }
}

impl Requester {
    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`ReplyError`].
    ///
    /// Not cancel-safe: dropped after it was sent, the service may deal with it all the same.
    pub async fn request(
        &self,
        request: impl Into<Record>,
        timeout: Duration,
    ) -> Result<Delivery, ReplyError> {
        let mut record = request.into();
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.shared.lock();
            if let Some(error) = &waiting.over {
                return Err(error.clone().into());
            }
            let opened = waiting.requests.open(Instant::now(), timeout, &mut Rng::new());
            let (id, headers) = opened?;
            record.headers.extend(headers);
            waiting.senders.insert(id, sender);
            id
        };
        let _open = Open { shared: &self.shared, id };
        self.shared.alarm.notify_one();
        let acknowledged = tokio::time::timeout(timeout, self.producer.send(record)).await;
        if let Ok(Err(error)) = acknowledged {
            return Err(error.into());
        }
        let after_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        receiver.await.unwrap_or(Err(ReplyError::NoReply { after_ms }))
    }
}

/// Closes a request that nobody waits for any more.
struct Open<'a> {
    shared: &'a Shared,
    id: CorrelationId,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.requests.close(self.id);
        waiting.senders.remove(&self.id);
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

async fn receive(shared: Arc<Shared>, mut consumer: Consumer) {
    let mut closing = shared.closing.subscribe();
    loop {
        let deadline = shared.lock().requests.next_deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let item = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = shared.alarm.notified() => continue,
            () = late => {
                let mut waiting = shared.lock();
                for id in waiting.requests.drain_expired(Instant::now()) {
                    // Its receiver learns that there is no reply.
                    waiting.senders.remove(&id);
                }
                continue;
            }
            item = consumer.next() => item,
        };
        let mut waiting = shared.lock();
        match item {
            Some(Ok(delivery)) => {
                let id = waiting.requests.handle_reply(&delivery.headers);
                if let Some(sender) = id.and_then(|id| waiting.senders.remove(&id)) {
                    // Whoever asked may have given up.
                    drop(sender.send(Ok(delivery)));
                }
            }
            Some(Err(error)) if error.is_retryable() => {}
            ended => {
                let error = ended.and_then(Result::err).unwrap_or(ConsumeError::Closed);
                waiting.over = Some(error.clone());
                for (_, sender) in waiting.senders.drain() {
                    drop(sender.send(Err(error.clone().into())));
                }
                return;
            }
        }
    }
}
