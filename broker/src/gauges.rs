//! What a running node counts beside its metadata: how long it runs, who is connected.
//!
//! Absent on purpose: time series. `/metrics` comes with observability.

use crate::controls::Door;
use crate::scrub::DamageCounters;
use bateau_log::Disk;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Open connections by door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Of the Kafka door.
    pub kafka: usize,
    /// Of the native door.
    pub native: usize,
    /// Of the HTTP door.
    pub http: usize,
}

/// The counters of one node.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub started: Instant,
    pub disk: Arc<dyn Disk>,
    /// What was damaged and mended.
    pub damage: Arc<DamageCounters>,
    kafka: Arc<AtomicUsize>,
    native: Arc<AtomicUsize>,
    http: Arc<AtomicUsize>,
}

impl Gauges {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        let (kafka, native, http) = Default::default();
        let damage = Arc::default();
        Self { started: Instant::now(), disk, damage, kafka, native, http }
    }

    pub fn connections(&self) -> Connections {
        let open = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Connections { kafka: open(&self.kafka), native: open(&self.native), http: open(&self.http) }
    }

    pub fn connected(&self, door: Door) -> Connected {
        let count = match door {
            Door::Kafka => &self.kafka,
            Door::Native => &self.native,
            Door::Http => &self.http,
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
