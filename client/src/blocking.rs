//! The client without `async`: the same, on a runtime of its own.
//!
//! ```
//! use bateau_client::blocking::Client;
//!
//! # fn main() -> bateau_client::Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
//! # let broker = runtime.block_on(bateau_testing::TestBroker::start()).expect("a broker");
//! # let address = broker.native_url().expect("the native door is open");
//! // "quic://127.0.0.1:9443" is where `bateau dev` listens.
//! let client = Client::connect(&address)?;
//! let ack = client.run(client.inner().producer("orders").send("order 7"))?;
//! let mut consumer = client.start(client.inner().consumer("billing").topics(["orders"]))?;
//! for delivery in consumer.by_ref().take(1) {
//!     client.run(delivery?.ack())?;
//! }
//! # drop(consumer);
//! client.close()?;
//! # assert_eq!(ack.offset, 0);
//! # Ok(())
//! # }
//! ```
//!
//! One thread of the client's own moves its bytes and keeps its sessions, whether a call runs or
//! not. Calls must not be made from inside an async runtime: they would hold it up.
//!
//! Absent on purpose: a second set of methods. Whatever the client does is a future, and
//! [`Client::run`] waits for it.

use crate::client::ClientBuilder;
use crate::consumer::{self, ConsumerBuilder, Delivery};
use crate::error::{CommitError, ConnectError, ConsumeError, Unsent};
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A client whose calls wait. Cloning is cheap, and clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

/// A runtime on a thread of its own, until it is dropped.
#[derive(Debug)]
struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start() -> Result<Arc<Self>, ConnectError> {
        let failed = |error: std::io::Error| ConnectError::Socket { reason: error.to_string() };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("bateau-client".to_owned());
        let thread = thread.spawn(move || drop(runtime.block_on(stopped))).map_err(failed)?;
        Ok(Arc::new(Self { handle, stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::connect_with(crate::Client::builder().address(address))
    }

    /// As [`ClientBuilder::connect`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_with(builder: ClientBuilder) -> Result<Self, ConnectError> {
        let runtime = Runtime::start()?;
        let client = runtime.handle.block_on(builder.connect())?;
        Ok(Self { client, runtime })
    }

    /// The client itself, whose methods make futures for [`Client::run`].
    #[must_use]
    pub const fn inner(&self) -> &crate::Client {
        &self.client
    }

    /// Waits for a future of this client.
    ///
    /// # Panics
    /// Called from inside an async runtime.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.handle.block_on(future)
    }

    /// As [`ConsumerBuilder::start`].
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub fn start(&self, builder: ConsumerBuilder) -> Result<Consumer, ConsumeError> {
        let consumer = self.run(builder.start())?;
        Ok(Consumer { consumer, client: self.clone() })
    }

    /// As [`crate::Client::close`].
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn close(self) -> Result<(), Unsent> {
        self.runtime.handle.block_on(self.client.clone().close())
    }
}

/// An iterator over records.
#[derive(Debug)]
pub struct Consumer {
    consumer: consumer::Consumer,
    client: Client,
}

impl Consumer {
    /// As [`consumer::Consumer::close`].
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn close(self) -> Result<(), CommitError> {
        self.client.run(self.consumer.close())
    }

    /// The consumer itself, to seek and to commit.
    pub const fn inner(&mut self) -> &mut consumer::Consumer {
        &mut self.consumer
    }
}

impl Iterator for Consumer {
    type Item = Result<Delivery, ConsumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { consumer, client } = self;
        client.run(consumer.next())
    }
}
