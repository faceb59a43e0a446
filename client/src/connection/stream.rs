//! One long-lived stream: a session behind a lock, and two tasks that move its bytes.
//!
//! ```text
//!   call, produce, subscribe ──lock──> Session ──> writer task ──> QUIC
//!        answered, pushed <── reader task <── Session <── QUIC
//! ```
//!
//! Answers are handed over by the reader task itself: a producer's next batch is queued in the same
//! turn in which the acknowledgement came. All frames that are due leave in one write.
//!
//! Invariants
//! - Sinks are called without the lock, so that they may send.
//! - Every request that was accepted is answered exactly once: by the broker, or by the end of the
//!   stream. What was never handed to QUIC is told apart: it cannot have had an effect.
//! - Produces stay within the connection's window, so that they never keep the broker from reading
//!   heartbeats.
//!
//! Absent on purpose: deadlines and retries.

use super::session::{Event, Session, Violation};
use super::{Link, link_lost};
use crate::error::{BrokerError, RequestError};
use bateau_protocol::native::{
    Call, CloseCode, Kind, OpenStream, ProduceRequest, Request, StreamRole, frame,
};
use bateau_protocol::wire::error::EncodeError;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, oneshot};

/// Chunks that one read takes from QUIC.
const CHUNKS_PER_READ: usize = 64;

/// Whom answers go to that nobody awaits.
pub(crate) trait AnswerSink: Send + Sync {
    /// The answer to the request that was sent with `token`: its body in the form of `version`.
    fn answered(&self, token: u64, outcome: Result<Bytes, SinkError>, version: i16);
}

/// Why a sink gets no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SinkError {
    pub error: RequestError,
    /// Whether the request was handed to the connection at all.
    pub was_sent: bool,
}

/// Whom the pushes of a subscription or a watch go to.
pub(crate) trait PushSink: Send + Sync {
    /// The broker pushed. Returns whether more may come.
    fn pushed(&self, kind: Kind, body: Bytes, version: i16) -> bool;
    /// Nothing comes any more: the stream is over.
    fn lost(&self, error: RequestError);
}

enum Waiter {
    Call(oneshot::Sender<Result<Bytes, RequestError>>),
    /// A subscription: its pushes end with an error in the answer's place.
    Subscribe(oneshot::Sender<Result<Bytes, RequestError>>, u32),
    Sink(Sink),
}

struct Sink {
    sink: Arc<dyn AnswerSink>,
    token: u64,
    bytes: usize,
}

struct State {
    session: Session<Waiter>,
    /// Produces that wait for room in the connection's window.
    queued: VecDeque<(ProduceRequest, Sink)>,
    pushes: HashMap<u32, Arc<dyn PushSink>>,
    over: Option<RequestError>,
    ends: Ends,
}

/// The stream's two ends, until its tasks have them.
enum Ends {
    Unopened,
    Open(quinn::SendStream, quinn::RecvStream),
    Taken,
}

/// A stream of one role.
pub(crate) struct Stream {
    role: StreamRole,
    link: Arc<Link>,
    state: Mutex<State>,
    due: Notify,
    this: Weak<Self>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Stream {
    /// A data or bulk stream; it is opened when it is first used.
    pub fn unopened(role: StreamRole, link: &Arc<Link>) -> Arc<Self> {
        let mut session = Session::new(link.version, link.frame_bytes_max);
        // Numbers always encode; and the answer needs nobody who waits for it.
        let opening = OpenStream { role: role.number() };
        let (ignored, _) = oneshot::channel();
        let _ = session.request(OpenStream::KIND, &opening, Waiter::Call(ignored));
        Self::with(role, link, session, Ends::Unopened)
    }

    /// The control stream, behind `Welcome`.
    ///
    /// - `behind`: bytes that came with it.
    pub fn control(
        link: &Arc<Link>,
        ends: (quinn::SendStream, quinn::RecvStream),
        behind: &[u8],
    ) -> Arc<Self> {
        let mut session = Session::new(link.version, link.frame_bytes_max);
        session.receive(behind);
        let stream = Self::with(StreamRole::Control, link, session, Ends::Open(ends.0, ends.1));
        stream.start(&mut stream.lock());
        stream
    }

    fn with(role: StreamRole, link: &Arc<Link>, session: Session<Waiter>, ends: Ends) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let (queued, pushes) = (VecDeque::new(), HashMap::new());
            let state = Mutex::new(State { session, queued, pushes, over: None, ends });
            let (link, this) = (Arc::clone(link), Weak::clone(this));
            Self { role, link, state, due: Notify::new(), this }
        })
    }

    /// Sends a request and waits for its answer. Dropping the future leaves the request on its way.
    pub async fn call<C: Call>(self: &Arc<Self>, request: &C) -> Result<C::Answer, RequestError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.usable()?;
            let sent = state.session.request(C::KIND, request, Waiter::Call(sender));
            sent.map_err(unsayable)?;
            self.start(&mut state);
        }
        self.due.notify_one();
        Arc::clone(self).answer(receiver).await
    }

    /// Sends a request whose pushes go to `sink` until it says that it is over. Returns the
    /// subscription's number at once, and the answer when it is there.
    pub fn subscribe<C: Call>(
        self: &Arc<Self>,
        request: &C,
        sink: Arc<dyn PushSink>,
    ) -> Result<(u32, impl Future<Output = Result<C::Answer, RequestError>> + use<C>), RequestError>
    {
        let (sender, receiver) = oneshot::channel();
        let correlation = {
            let mut state = self.usable()?;
            let number = state.session.next_correlation();
            let waiter = Waiter::Subscribe(sender, number);
            let correlation = state.session.request(C::KIND, request, waiter).map_err(unsayable)?;
            state.pushes.insert(correlation, sink);
            self.start(&mut state);
            correlation
        };
        self.due.notify_one();
        Ok((correlation, Arc::clone(self).answer(receiver)))
    }

    async fn answer<A: bateau_protocol::wire::Wire>(
        self: Arc<Self>,
        receiver: oneshot::Receiver<Result<Bytes, RequestError>>,
    ) -> Result<A, RequestError> {
        // The sender goes only with the stream itself.
        let body = receiver.await.unwrap_or_else(|_| Err(link_lost("the stream is over")))?;
        frame::decode(body, self.link.version).map_err(|error| {
            let error = RequestError::Protocol { reason: error.to_string() };
            self.link.fail(error.clone(), CloseCode::PROTOCOL);
            error
        })
    }

    /// Sends what has no answer. Pushes about it go to `sink`.
    pub fn watch(
        &self,
        signal: &(impl bateau_protocol::wire::Wire + Clone + Into<Request>),
        sink: Arc<dyn PushSink>,
    ) -> Result<u32, RequestError> {
        let kind = signal.clone().into().kind();
        let mut state = self.usable()?;
        let correlation = state.session.signal(kind, signal).map_err(unsayable)?;
        state.pushes.insert(correlation, sink);
        self.start(&mut state);
        drop(state);
        self.due.notify_one();
        Ok(correlation)
    }

    /// Forgets the pushes of a watch.
    pub fn unwatch(&self, correlation: u32) {
        self.lock().pushes.remove(&correlation);
    }

    /// Sends what has no answer, about the subscription of this number.
    pub fn signal(
        &self,
        correlation: u32,
        signal: &(impl bateau_protocol::wire::Wire + Clone + Into<Request>),
    ) {
        let kind = signal.clone().into().kind();
        if let Ok(mut state) = self.usable() {
            // Credit and unsubscribe have numbers only, which always encode.
            let _ = state.session.signal_as(kind, correlation, signal);
            drop(state);
            self.due.notify_one();
        }
    }

    /// Sends a produce when the window has room; the answer goes to `sink`.
    ///
    /// - `bytes`: what it takes in the window.
    ///
    /// Errors: the stream is over; nothing was accepted.
    pub fn produce(
        &self,
        request: ProduceRequest,
        bytes: usize,
        sink: Arc<dyn AnswerSink>,
        token: u64,
    ) -> Result<(), RequestError> {
        let mut state = self.usable()?;
        state.queued.push_back((request, Sink { sink, token, bytes }));
        self.start(&mut state);
        drop(state);
        self.due.notify_one();
        Ok(())
    }

    /// Ends the connection.
    pub fn fail(&self, error: RequestError, code: CloseCode) {
        self.link.fail(error, code);
    }

    /// Whether it takes requests.
    pub fn is_usable(&self) -> bool {
        self.lock().over.is_none()
    }

    /// Whether somebody waits for an answer to what was sent.
    pub fn is_waiting(&self) -> bool {
        let state = self.lock();
        !matches!(state.ends, Ends::Unopened) && state.session.is_waiting()
    }

    /// There may be something to write.
    pub fn wake(&self) {
        self.due.notify_one();
    }

    /// The connection is over: everybody is told.
    pub fn end(&self, error: &RequestError) {
        let (waiters, queued, pushes) = {
            let mut state = self.lock();
            if state.over.is_some() {
                return;
            }
            state.over = Some(error.clone());
            let waiters = state.session.abandon();
            (waiters, mem::take(&mut state.queued), mem::take(&mut state.pushes))
        };
        self.due.notify_one();
        for waiter in waiters {
            self.settle(waiter, Err(error.clone()));
        }
        for (_, sink) in queued {
            let error = SinkError { error: error.clone(), was_sent: false };
            sink.sink.answered(sink.token, Err(error), self.link.version);
        }
        for sink in pushes.into_values() {
            sink.lost(error.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Result<MutexGuard<'_, State>, RequestError> {
        let state = self.lock();
        match &state.over {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// Starts the tasks, once.
    fn start(&self, state: &mut State) {
        let Some(this) = self.this.upgrade() else { return };
        match mem::replace(&mut state.ends, Ends::Taken) {
            Ends::Taken => {}
            Ends::Open(send, receive) => {
                self.link.runtime.spawn(Arc::clone(&this).write(send));
                self.link.runtime.spawn(this.read(receive));
            }
            Ends::Unopened => {
                self.link.runtime.spawn(async move {
                    match this.link.quic.open_bi().await {
                        Ok((send, receive)) => {
                            this.link.runtime.spawn(Arc::clone(&this).read(receive));
                            this.write(send).await;
                        }
                        // The connection's monitor ends the streams.
                        Err(error) => tracing::debug!(%error, "a stream could not be opened"),
                    }
                });
            }
        }
    }

    async fn write(self: Arc<Self>, mut send: quinn::SendStream) {
        let mut parts = Vec::new();
        loop {
            if !self.take_due(&mut parts) {
                // All of the connection's streams end together; a reset of one says nothing more.
                return;
            }
            if parts.is_empty() {
                self.due.notified().await;
                continue;
            }
            if let Err(error) = send.write_all_chunks(&mut parts).await {
                let reason = format!("a stream cannot be written: {error}");
                self.link.fail(link_lost(&reason), CloseCode::INTERNAL);
                return;
            }
            parts.clear();
        }
    }

    /// Moves what is due to `parts`; `false` when the stream is over.
    fn take_due(&self, parts: &mut Vec<Bytes>) -> bool {
        let mut refused = Vec::new();
        {
            let mut state = self.lock();
            if state.over.is_some() {
                return false;
            }
            while let Some((_, sink)) = state.queued.front() {
                if !self.link.window.try_take(sink.bytes, || Weak::clone(&self.this)) {
                    break;
                }
                let Some((request, sink)) = state.queued.pop_front() else { break };
                let waiter = Waiter::Sink(sink);
                let refusal = state.session.try_request(ProduceRequest::KIND, &request, waiter);
                refused.extend(refusal.err());
            }
            state.session.take_outbound(parts);
        }
        for (error, waiter) in refused {
            self.settle(waiter, Err(unsayable(error)));
        }
        true
    }

    async fn read(self: Arc<Self>, mut receive: quinn::RecvStream) {
        let mut chunks: [Bytes; CHUNKS_PER_READ] = std::array::from_fn(|_| Bytes::new());
        let mut events = Vec::new();
        loop {
            // `Welcome` may have had company, so what is there comes before what is read.
            let outcome = self.take_events(&mut events);
            for event in events.drain(..) {
                self.handle(event);
            }
            if let Err(violation) = outcome {
                let error = RequestError::Protocol { reason: violation.to_string() };
                self.link.fail(error, CloseCode::PROTOCOL);
                return;
            }
            let count = match receive.read_chunks(&mut chunks).await {
                Ok(Some(count)) => count,
                Ok(None) => {
                    let error = link_lost("the broker ended a stream");
                    self.link.fail(error, CloseCode::PROTOCOL);
                    return;
                }
                Err(error) => {
                    let reason = format!("a stream cannot be read: {error}");
                    self.link.fail(link_lost(&reason), CloseCode::INTERNAL);
                    return;
                }
            };
            let mut state = self.lock();
            for chunk in chunks.iter_mut().take(count) {
                state.session.receive(&mem::take(chunk));
            }
        }
    }

    fn take_events(&self, events: &mut Vec<Event<Waiter>>) -> Result<(), Violation> {
        let mut state = self.lock();
        while let Some(event) = state.session.next_event()? {
            events.push(event);
        }
        Ok(())
    }

    fn handle(&self, event: Event<Waiter>) {
        match event {
            Event::Answer { tag, outcome } => {
                let outcome = outcome.map_err(|reply| BrokerError::of_reply(&reply).into());
                self.settle(tag, outcome);
            }
            Event::Push { kind, correlation, body } => {
                if self.role == StreamRole::Control && self.link.pushed(kind) {
                    return;
                }
                let sink = self.lock().pushes.get(&correlation).cloned();
                // What nobody has subscribed to is on its way out, or of a later version.
                let Some(sink) = sink else { return };
                if !sink.pushed(kind, body, self.link.version) {
                    self.lock().pushes.remove(&correlation);
                }
            }
        }
    }

    fn settle(&self, waiter: Waiter, outcome: Result<Bytes, RequestError>) {
        match waiter {
            // Whoever waited may have given up.
            Waiter::Call(sender) => drop(sender.send(outcome)),
            Waiter::Subscribe(sender, correlation) => {
                if outcome.is_err() {
                    self.lock().pushes.remove(&correlation);
                }
                drop(sender.send(outcome));
            }
            Waiter::Sink(Sink { sink, token, bytes }) => {
                self.link.window.give_back(bytes);
                let outcome = outcome.map_err(|error| SinkError { error, was_sent: true });
                sink.answered(token, outcome, self.link.version);
            }
        }
    }
}

fn unsayable(error: EncodeError) -> RequestError {
    RequestError::Protocol { reason: format!("the request cannot be said: {error}") }
}
