//! One connection's task: QUIC, deadlines and memory around a [`Session`].
//!
//! ```text
//!   loop   take what the buffers hold, start it ─> answers, acks, subscriptions, write, read
//!                       ▲                                                            │
//!                       └──────────────── wait for any of it <───────────────────────┘
//! ```
//!
//! One task carries all streams, of which there are few; each is read and written apart from the
//! others, so a stream whose reader is slow holds up no other one. A wake gathers everything that
//! is due and writes it with one call per stream.
//!
//! Invariants
//! - A stream is read only while its replies, the connection's requests and the node's memory are
//!   within their limits.
//! - Acks of a partition leave in the order of its batches.
//!
//! Absent on purpose: what a request means.

use super::dispatch::{Call, Context, PlannedSubscription};
use super::feed::{Feed, Warming};
use super::session::{Received, Session, StreamNumber, Ticket, error};
use super::stream::{Ended, Paced, Stream};
use super::watch::Watch;
use crate::doors::budget::Share;
use bateau_protocol::native::{CloseCode, Reply, Request, StreamRole, SubscribeRequest};
use bateau_protocol::wire::ErrorCode;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, Stream as _, unfold};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a closing connection waits until its last words have arrived.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Time limits of every connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// `Hello` has to come within.
    pub hello: Duration,
    /// Over which a sender's pace inside a frame is measured.
    pub stall_window: Duration,
    /// What it must send in that time.
    pub stall_bytes_min: u64,
}

type Accepting = Pin<
    Box<dyn futures_util::Stream<Item = Result<(SendStream, RecvStream), ConnectionError>> + Send>,
>;

/// A subscription that begins later.
type Beginning = Pin<Box<dyn Future<Output = (StreamNumber, Ticket, SubscribeRequest)> + Send>>;

/// Waits for what there is to wait for.
async fn wait_for(future: Option<impl Future<Output = ()>>) {
    if let Some(future) = future {
        future.await;
    }
}

/// One connection.
pub struct Connection {
    quic: quinn::Connection,
    accepting: Accepting,
    session: Session,
    context: Arc<Context>,
    call: Call,
    share: Share,
    deadlines: Deadlines,
    streams: BTreeMap<StreamNumber, Stream>,
    feed: Feed,
    warming: FuturesUnordered<Warming>,
    /// Subscriptions that a test has delayed.
    beginning: FuturesUnordered<Beginning>,
    /// Those of them that their clients still want.
    late: BTreeSet<(StreamNumber, u32)>,
    watch: Watch,
    /// What the node's memory lacks for the next request.
    missing_memory: Option<usize>,
    hello_until: Instant,
    is_draining: bool,
    /// The peer is gone.
    lost: Option<ConnectionError>,
}

impl Connection {
    /// A connection whose handshake is over.
    pub fn new(
        quic: quinn::Connection,
        session: Session,
        context: Context,
        feed: Feed,
        share: Share,
        deadlines: Deadlines,
    ) -> Self {
        let accepting = unfold(quic.clone(), |quic| async move {
            let accepted = quic.accept_bi().await;
            Some((accepted, quic))
        });
        let context = Arc::new(context);
        let call =
            Call { context: Arc::clone(&context), client_name: session.client_name().clone() };
        let watch = Watch::new(&context.broker);
        Self {
            quic,
            accepting: Box::pin(accepting),
            session,
            context,
            call,
            share,
            deadlines,
            streams: BTreeMap::new(),
            feed,
            warming: FuturesUnordered::new(),
            beginning: FuturesUnordered::new(),
            late: BTreeSet::new(),
            watch,
            missing_memory: None,
            hello_until: Instant::now() + deadlines.hello,
            is_draining: false,
            lost: None,
        }
    }

    /// Serves the connection until it ends; returns why.
    ///
    /// - `stop`: becomes true when the node stops; what runs is then finished and answered.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) -> String {
        let mut stopped = pin!(async move {
            // A sender that is gone stops the node as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let mut timer = pin!(sleep_until(self.next_deadline()));
        loop {
            self.take_requests().await;
            if self.is_over() {
                return self.close().await;
            }
            if self.next_deadline() < timer.deadline() {
                timer.as_mut().reset(self.next_deadline());
            }
            let share = &self.share;
            let memory = self.missing_memory.map(|bytes| share.until_free(bytes));
            let waits_for_memory = memory.is_some();
            tokio::select! {
                biased;
                // First, so that a connection that is always busy hears of it.
                () = &mut stopped, if !self.is_draining => self.drain(),
                () = poll_fn(|task| self.poll_move(task)) => {}
                () = wait_for(memory), if waits_for_memory => {}
                () = &mut timer => {
                    self.check_deadlines(Instant::now());
                    timer.as_mut().reset(self.next_deadline());
                }
            }
        }
    }

    /// Starts every request that has arrived and may start.
    async fn take_requests(&mut self) {
        self.missing_memory = None;
        let mut streams = std::mem::take(&mut self.streams);
        for (number, stream) in &mut streams {
            self.take_requests_of(*number, stream).await;
        }
        self.streams = streams;
        self.share.shrink_to(self.session.inflight_bytes());
    }

    async fn take_requests_of(&mut self, number: StreamNumber, stream: &mut Stream) {
        let mut has_taken = false;
        stream.missing_bytes = None;
        loop {
            let memory = self.session.memory(number, &stream.buffer);
            if let Err(missing) = self.share.cover(memory) {
                self.missing_memory = Some(missing);
                break;
            }
            match self.session.receive(number, &mut stream.buffer) {
                Received::Request(ticket, Request::Produce(request)) => {
                    has_taken = true;
                    let lane = (request.topic_id, request.partition);
                    let submitted = self.call.submit(request).await;
                    stream.acks.push(lane, (ticket, submitted));
                }
                Received::Request(ticket, Request::Subscribe(request)) => {
                    has_taken = true;
                    match self.call.planned_subscription(&request) {
                        PlannedSubscription::Now => self.subscribe(number, ticket, &request),
                        PlannedSubscription::Late(plan) => {
                            self.late.insert((number, ticket.correlation()));
                            self.beginning.push(Box::pin(async move {
                                let _ = plan.finish(true).await;
                                (number, ticket, request)
                            }));
                        }
                        PlannedSubscription::Refused(refusal) => {
                            self.session.reply(ticket, &Reply::Error(refusal));
                        }
                    }
                }
                Received::Request(ticket, request) => {
                    has_taken = true;
                    stream.start(ticket, self.call.clone().serve(request));
                }
                Received::Signal(correlation, request) => {
                    has_taken = true;
                    self.signal(number, correlation, request);
                }
                Received::Incomplete { missing_bytes } => {
                    stream.missing_bytes = Some(missing_bytes);
                    break;
                }
                Received::Blocked | Received::Ended => break,
            }
        }
        if number == StreamNumber::CONTROL && self.call.client_name != *self.session.client_name() {
            self.call.client_name = self.session.client_name().clone();
        }
        stream.measure(has_taken);
    }

    /// Begins a subscription, and answers.
    fn subscribe(&mut self, number: StreamNumber, ticket: Ticket, request: &SubscribeRequest) {
        match self.feed.subscribe((number, ticket.correlation()), request) {
            Ok(answer) => {
                let reply = answer.map_or_else(Reply::Error, Reply::Subscribe);
                self.session.reply(ticket, &reply);
            }
            Err(found) => self.session.close(CloseCode::CREDIT_OVERDRAWN, found.to_string()),
        }
    }

    /// Begins the subscriptions that a test has delayed until now. Returns whether there were any.
    fn poll_late(&mut self, task: &mut TaskContext<'_>) -> bool {
        let mut has_moved = false;
        while let Poll::Ready(Some(begins)) = Pin::new(&mut self.beginning).poll_next(task) {
            has_moved = true;
            let (number, ticket, request) = begins;
            let is_wanted = self.late.remove(&(number, ticket.correlation()));
            if is_wanted && self.session.role(number).is_some() {
                self.subscribe(number, ticket, &request);
            } else {
                let text = "the subscription ended before it began";
                let ended = error(ErrorCode::UNKNOWN_SUBSCRIPTION, text);
                self.session.reply(ticket, &Reply::Error(ended));
            }
        }
        has_moved
    }

    /// Does what has no answer.
    fn signal(&mut self, number: StreamNumber, correlation: u32, request: Request) {
        match request {
            Request::Credit(credit) => {
                let granted = self.feed.credit((number, correlation), credit.credit_bytes);
                if let Err(found) = granted {
                    self.session.close(CloseCode::CREDIT_OVERDRAWN, found.to_string());
                }
            }
            Request::Unsubscribe(_) => {
                self.late.remove(&(number, correlation));
                self.feed.unsubscribe(&mut self.session, (number, correlation));
            }
            Request::Watch(request) => self.watch.begin(correlation, request),
            Request::Unwatch(_) => self.watch.end(),
            _ => {}
        }
    }

    /// Takes nothing more; what runs is finished, except for what waits for others.
    fn drain(&mut self) {
        self.is_draining = true;
        self.session.drain();
        self.feed.end_all(&mut self.session);
        self.watch.end();
    }

    /// Whether the connection can be closed, or must be.
    fn is_over(&self) -> bool {
        if self.lost.is_some() {
            return true;
        }
        self.session.closing().is_some() || (self.is_draining && self.session.is_all_quiet())
    }

    /// Tells the client why, and lets it hear what was said before.
    async fn close(mut self) -> String {
        if let Some(lost) = self.lost {
            return lost.to_string();
        }
        let closing = self.session.closing().cloned();
        let (code, reason, is_patient) = match closing {
            Some(closing) => (closing.code, closing.reason, closing.is_patient),
            None => (CloseCode::GOING_AWAY, "the broker stops".to_owned(), true),
        };
        if is_patient {
            // Whoever does not listen is not waited for.
            let _ = timeout(LAST_WORDS, self.say_the_rest()).await;
        }
        self.quic.close(VarInt::from_u32(code.0), reason.as_bytes());
        format!("{code}: {reason}")
    }

    /// Waits until the client has all that was said to it.
    async fn say_the_rest(&mut self) {
        let mut heard = Vec::new();
        for (number, stream) in &mut self.streams {
            let Some(outgoing) = self.session.outgoing(*number) else { continue };
            while !outgoing.is_empty() {
                let Ok(written) = stream.send.write_chunks(outgoing.front()).await else { break };
                outgoing.took(written.chunks, written.bytes);
            }
            // One that is finished or reset already has nothing more to say.
            let _ = stream.send.finish();
            heard.push(stream.send.stopped());
        }
        join_all(heard).await;
    }

    /// Answers, writes and reads what can be without waiting; pending when nothing moved.
    fn poll_move(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        let mut has_moved = self.poll_accept(task);
        has_moved |= self.poll_late(task);
        has_moved |= self.feed.poll_woken(task, &mut self.session);
        while let Poll::Ready(Some((id, warmed))) = Pin::new(&mut self.warming).poll_next(task) {
            self.feed.resume(&mut self.session, id, warmed);
            has_moved = true;
        }
        if self.session.has_room(StreamNumber::CONTROL)
            && let Some((correlation, change)) = self.watch.poll_change(task, &self.context)
        {
            let change = Reply::ClusterChanged(change);
            self.session.push(StreamNumber::CONTROL, correlation, &change);
            has_moved = true;
        }
        let mut gone = Vec::new();
        for (number, stream) in &mut self.streams {
            if stream.has_ended {
                // Nobody can grant a credit any more.
                self.feed.forget_stream(*number);
            }
            has_moved |= stream.poll_answers(task, *number, &mut self.session);
            if self.session.role(*number) == Some(StreamRole::Bulk) {
                let warming = &self.warming;
                let cold = |range| warming.push(range);
                has_moved |= self.feed.serve(&mut self.session, *number, cold);
            }
            match stream.poll_io(task, *number, &mut self.session) {
                Ok(moved) => has_moved |= moved,
                Err(ended) => gone.push((*number, ended)),
            }
        }
        for (number, ended) in gone {
            has_moved = true;
            self.forget(number, ended);
        }
        if has_moved { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_accept(&mut self, task: &mut TaskContext<'_>) -> bool {
        let durability = self.context.broker.node().durability;
        let mut has_moved = false;
        while let Poll::Ready(accepted) = self.accepting.as_mut().poll_next(task) {
            has_moved = true;
            match accepted {
                Some(Ok((send, recv))) => {
                    let Some(number) = self.session.open_stream() else { break };
                    self.streams.insert(number, Stream::new(send, recv, durability));
                }
                Some(Err(error)) => {
                    self.lost = Some(error);
                    break;
                }
                None => break,
            }
        }
        has_moved
    }

    /// A stream has ended. Without its control stream a connection is of no use.
    fn forget(&mut self, number: StreamNumber, ended: Ended) {
        if let Ended::Lost(error) = ended {
            self.lost = Some(error);
            return;
        }
        if let Some(mut stream) = self.streams.remove(&number)
            && matches!(ended, Ended::Abandoned)
        {
            // It is gone already where the client has stopped it.
            let _ = stream.send.reset(VarInt::from_u32(CloseCode::DONE.0));
        }
        self.feed.forget_stream(number);
        self.session.forget_stream(number);
        match ended {
            Ended::AnswerLost => {
                self.session.close(CloseCode::INTERNAL, "as the test has planned it".to_owned());
            }
            _ if number == StreamNumber::CONTROL => {
                let reason = "the control stream has ended".to_owned();
                self.session.close(CloseCode::DONE, reason);
            }
            _ => {}
        }
    }

    fn next_deadline(&self) -> Instant {
        let hello = self.session.version().is_none().then_some(self.hello_until);
        let paces = self.streams.values().filter_map(|stream| stream.pace);
        let paces = paces.map(|pace| pace.since + self.deadlines.stall_window);
        let far = self.hello_until + Duration::from_hours(24);
        paces.chain(hello).min().unwrap_or(far)
    }

    fn check_deadlines(&mut self, now: Instant) {
        let (window, expected) = (self.deadlines.stall_window, self.deadlines.stall_bytes_min);
        let paces = self.streams.values_mut().filter_map(|stream| stream.pace.as_mut());
        for pace in paces.filter(|pace| now >= pace.since + window) {
            if pace.bytes < expected {
                let reason = format!(
                    "{} bytes of a frame came in time, {expected} are the least",
                    pace.bytes
                );
                self.session.close(CloseCode::TOO_SLOW, reason);
            }
            *pace = Paced { since: now, bytes: 0 };
        }
        if self.session.version().is_none() && now >= self.hello_until {
            self.session.close(CloseCode::TOO_SLOW, "no Hello came in time".to_owned());
        }
    }
}
