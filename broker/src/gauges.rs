//! What a running node counts beside its metadata: how long it runs, who is connected.
//!
//! Absent on purpose: time series. `/metrics` comes with observability.

use bateau_log::Disk;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A door whose connections are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Kafka's protocol.
    Kafka,
    /// The native protocol.
    Native,
}

/// Open connections by door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Of the Kafka door.
    pub kafka: usize,
    /// Of the native door.
    pub native: usize,
}

/// The counters of one node.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub started: Instant,
    pub disk: Arc<dyn Disk>,
    kafka: Arc<AtomicUsize>,
    native: Arc<AtomicUsize>,
}

impl Gauges {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        let (kafka, native) = (Arc::default(), Arc::default());
        Self { started: Instant::now(), disk, kafka, native }
    }

    pub fn connections(&self) -> Connections {
        let open = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Connections { kafka: open(&self.kafka), native: open(&self.native) }
    }

    pub fn connected(&self, door: Door) -> Connected {
        let count = match door {
            Door::Kafka => &self.kafka,
            Door::Native => &self.native,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(count))
    }
}

/// One open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Connected(Arc<AtomicUsize>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
