//! Which partitions a consumer reads, now and from now on.
//!
//! Absent on purpose: callbacks. A rebalance waits for what is in the application's hands
//! ([`super::Delivery::ack`]), and for nothing else.

use super::Consumer;
use super::shared::{Place, Shared};
use crate::group::TopicPartition;
use std::sync::Arc;
use tokio::sync::watch;

impl Consumer {
    /// The partitions that it reads at the moment, in order.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment()
    }

    /// Tells of changes of [`Consumer::assignment`], also while records are read.
    ///
    /// ```
    /// # bateau_testing::private::run_with_broker(|broker| async move {
    /// # broker.seed_topic("orders", 2).await.expect("it is made");
    /// # let client = broker.client().await.expect("the broker lets clients in");
    /// let consumer = client.consumer("billing").topics(["orders"]).start().await?;
    /// let mut assignment = consumer.assignment_watch();
    /// while let Some(partitions) = assignment.changed().await {
    ///     println!("{partitions:?}");
    ///     if partitions.len() == 2 {
    ///         break;
    ///     }
    /// }
    /// # Ok::<_, bateau_client::Error>(())
    /// # })
    /// # .expect("the example works");
    /// ```
    #[must_use]
    pub fn assignment_watch(&self) -> AssignmentWatch {
        let changes = self.shared.assignment_changes.subscribe();
        AssignmentWatch { shared: Arc::clone(&self.shared), changes, told: Vec::new() }
    }
}

impl Shared {
    fn assignment(&self) -> Vec<TopicPartition> {
        let name = |(topic, partition): &Place| TopicPartition {
            topic: topic.to_string(),
            partition: *partition,
        };
        self.lock().assigned.keys().map(name).collect()
    }
}

/// Tells of changes of what a consumer reads. Made by [`Consumer::assignment_watch`].
#[derive(Debug)]
pub struct AssignmentWatch {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    /// What was told last; nothing at first.
    told: Vec<TopicPartition>,
}

impl AssignmentWatch {
    /// The partitions that the consumer reads at the moment.
    #[must_use]
    pub fn current(&self) -> Vec<TopicPartition> {
        self.shared.assignment()
    }

    /// Waits until the assignment is another one than this told last; the first time, until there
    /// is one. Changes that come quickly may be told as one. `None` when the consumer is over.
    ///
    /// A member that rebalances eagerly gives up everything before it gets anything, which may be
    /// told, too.
    ///
    /// Cancel-safe: no change is missed.
    pub async fn changed(&mut self) -> Option<Vec<TopicPartition>> {
        loop {
            self.changes.borrow_and_update();
            if self.shared.lock().is_over {
                return None;
            }
            let now = self.shared.assignment();
            if now != self.told {
                self.told.clone_from(&now);
                return Some(now);
            }
            // The sender lives as long as `shared`.
            self.changes.changed().await.ok()?;
        }
    }
}
