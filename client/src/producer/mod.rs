//! Sending records to one topic.
//!
//! ```text
//!   send ──> partition ──> open batch ── nothing in flight, or full ──> connection ──> broker
//!              (murmur2)    encoded at once        (5 in flight)           │
//!   SendHandle <──────────────── acknowledged, in order, once ────────────┘
//! ```
//!
//! Batching needs no linger: a record goes out at once when nothing of its partition is in flight,
//! and what comes meanwhile gathers until the acknowledgement. One lock guards the producer's
//! batches; a record is encoded into its batch under it, so that there is no task, no queue entry
//! and no copy per record besides. Compressing happens without it, by whoever gets the batch to
//! leave, while others fill the next one.
//!
//! Invariants
//! - Records of one partition are written in the order of their `send` calls, across reconnects and
//!   changes of leader.
//! - With idempotence, the default, no record is written twice; where that cannot be known the
//!   outcome is [`SendError::OutcomeUnknown`].
//! - Buffered records take at most `buffer_bytes`.
//!
//! Absent on purpose: transactions.

mod batch;
mod engine;
mod front;
mod handle;
mod keeper;
mod partition;
mod tally;

pub use handle::SendHandle;

use crate::client::Client;
use crate::error::{SendError, Unsent};
use crate::partitioner::Keyless;
use crate::record::{Ack, Record};
use bateau_protocol::record::Compression;
use engine::Engine;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Options of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub linger: Duration,
    pub compression: Compression,
    pub buffer_bytes: usize,
    pub batch_bytes: usize,
    pub timeout: Duration,
    pub idempotent: bool,
    pub keyless: Keyless,
    pub auto_create: bool,
}

/// Smallest buffer of a producer, in bytes.
pub const BUFFER_BYTES_MIN: usize = 64 * 1024;

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            compression: Compression::None,
            buffer_bytes: 32 * 1024 * 1024,
            batch_bytes: 128 * 1024,
            timeout: Duration::from_secs(30),
            idempotent: true,
            keyless: Keyless::default(),
            auto_create: true,
        }
    }
}

/// Sends records to one topic. Made by [`Client::producer`]; cloning is cheap, and clones share
/// the buffer.
///
/// Options are set before the first record. A producer that has sent already is left as it is by
/// them: they give a new one.
///
/// ```
/// # bateau_testing::private::run_with_broker(|broker| async move {
/// # let client = broker.client().await.expect("the broker lets clients in");
/// let producer = client.producer("orders");
/// let ack = producer.send("paid").await?;
/// println!("{}[{}]@{}: {}", "orders", ack.partition, ack.offset, ack.durability);
/// # Ok::<_, bateau_client::Error>(())
/// # })
/// # .expect("the example works");
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    topic: Arc<str>,
    options: Options,
    engine: OnceLock<Arc<Engine>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.get() {
            engine.orphan();
        }
    }
}

impl Producer {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self::with(client, topic.into(), Options::default())
    }

    fn with(client: Client, topic: Arc<str>, options: Options) -> Self {
        let engine = OnceLock::new();
        Self { shared: Arc::new(Shared { client, topic, options, engine }) }
    }

    fn change(self, change: impl FnOnce(&mut Options)) -> Self {
        let Shared { client, topic, options, .. } = &*self.shared;
        let mut options = options.clone();
        change(&mut options);
        Self::with(client.clone(), Arc::clone(topic), options)
    }

    /// How long a batch waits for more records, even though it could go. Default zero: it goes when
    /// nothing of its partition is in flight.
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        self.change(|options| options.linger = linger)
    }

    /// The codec of batches. Default none. A batch that a codec does not make smaller goes plain.
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        self.change(|options| options.compression = compression)
    }

    /// Bytes of records that may wait in this producer. Default 32 MiB, at least 64 KiB.
    #[must_use]
    pub fn buffer_bytes(self, bytes: usize) -> Self {
        self.change(|options| options.buffer_bytes = bytes.max(BUFFER_BYTES_MIN))
    }

    /// Bytes of records at which a batch is full. Default 128 KiB, at most 16 MiB; the topic's
    /// `max.message.bytes` is the broker's own limit. A larger record goes alone.
    #[must_use]
    pub fn batch_bytes(self, bytes: usize) -> Self {
        let bytes_max = bateau_protocol::limits::BATCH_BYTES_MAX;
        self.change(|options| options.batch_bytes = bytes.clamp(1, bytes_max))
    }

    /// The deadline of every record, from `send` to its acknowledgement, all attempts included.
    /// Default 30 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|options| options.timeout = timeout)
    }

    /// Whether the broker recognises what is sent twice. Default true. Without it a batch whose
    /// answer was lost is not sent again: its outcome is unknown at once.
    #[must_use]
    pub fn idempotent(self, on: bool) -> Self {
        self.change(|options| options.idempotent = on)
    }

    /// How records without a key are spread.
    #[must_use]
    pub fn keyless(self, rule: Keyless) -> Self {
        self.change(|options| options.keyless = rule)
    }

    /// Whether a topic that does not exist is made, where the broker allows it. Default true.
    #[must_use]
    pub fn auto_create(self, on: bool) -> Self {
        self.change(|options| options.auto_create = on)
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// The client that it was made by.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Sends a record: await the handle for the acknowledgement, or its
    /// [`queued`](SendHandle::queued) for room in the buffer. Must be called inside a tokio
    /// runtime.
    ///
    /// Cost: one copy of the record into its batch; no task and no allocation while there is room.
    pub fn send(&self, record: impl Into<Record>) -> SendHandle {
        match self.engine() {
            Ok(engine) => engine.send(record.into()),
            Err(error) => SendHandle::failed(error),
        }
    }

    /// Sends a record, if that needs no waiting.
    ///
    /// # Errors
    /// [`SendError::BufferFull`], [`SendError::NotReady`] before the topic's partitions are known
    /// ([`Producer::ready`]), and whatever is wrong with the record.
    pub fn try_send(&self, record: impl Into<Record>) -> Result<SendHandle, SendError> {
        self.engine()?.try_send(record.into()).map(SendHandle::placed)
    }

    /// Sends records in order and waits for all of their acknowledgements: a result for each.
    ///
    /// Not cancel-safe: dropping the future leaves the records that are in the buffer there, and
    /// the others unsent.
    pub async fn send_all<R: Into<Record>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Vec<Result<Ack, SendError>> {
        let mut handles = Vec::new();
        for record in records {
            handles.push(self.send(record).queued().await);
        }
        let mut results = Vec::with_capacity(handles.len());
        for handle in handles {
            results.push(match handle {
                Ok(handle) => handle.await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Waits until the topic's partitions are known, so that [`Producer::try_send`] works.
    ///
    /// # Errors
    /// [`SendError::NotSent`]: they could not be learnt within the producer's timeout.
    ///
    /// Cancel-safe.
    pub async fn ready(&self) -> Result<(), SendError> {
        self.engine()?.ready().await
    }

    /// Waits until everything that was sent before has been acknowledged or has failed. Batches
    /// that linger go at once.
    ///
    /// # Errors
    /// [`Unsent`]: records that failed since the last `flush`, whose handles were dropped or not.
    ///
    /// Cancel-safe: what was sent stays in the buffer.
    pub async fn flush(&self) -> Result<(), Unsent> {
        match self.shared.engine.get() {
            Some(engine) => engine.flush().await,
            None => Ok(()),
        }
    }

    /// Flushes, and sends nothing any more. Clones are closed with it.
    ///
    /// # Errors
    /// [`Unsent`], as in [`Producer::flush`].
    ///
    /// Cancel-safe: dropped before its end, the producer may still be used.
    pub async fn close(self) -> Result<(), Unsent> {
        match self.shared.engine.get() {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }

    /// Bytes of records in the buffer, those in flight included.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.engine.get().map_or(0, |engine| engine.buffered_bytes())
    }

    fn engine(&self) -> Result<&Arc<Engine>, SendError> {
        let Shared { client, topic, options, engine } = &*self.shared;
        let engine = engine.get_or_init(|| {
            let engine =
                Engine::start(Arc::clone(client.cluster()), Arc::clone(topic), options.clone());
            client.producers().register(&engine);
            engine
        });
        Ok(engine)
    }
}

/// The producers of one client that have sent something.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    engines: Mutex<Vec<Weak<Engine>>>,
}

impl Producers {
    fn register(&self, engine: &Arc<Engine>) {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|engine| engine.strong_count() > 0);
        engines.push(Arc::downgrade(engine));
    }

    /// Closes all of them, together, and sums up what was not sent.
    pub async fn close_all(&self) -> Result<(), Unsent> {
        let engines: Vec<_> = {
            let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
            engines.drain(..).filter_map(|engine| engine.upgrade()).collect()
        };
        let mut outcome: Result<(), Unsent> = Ok(());
        for engine in engines {
            if let Err(unsent) = engine.close().await {
                match &mut outcome {
                    Ok(()) => outcome = Err(unsent),
                    Err(sum) => {
                        sum.not_written += unsent.not_written;
                        sum.outcome_unknown += unsent.outcome_unknown;
                    }
                }
            }
        }
        outcome
    }
}
