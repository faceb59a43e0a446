//! What is known of the cluster, and the way to each of its brokers.

use crate::address::Address;
use crate::client::{BrokerInfo, ClientBuilder};
use crate::error::{AdminError, ConnectError, RequestError};
use crate::record::Durability;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{Call, MetadataResponse};
use std::sync::Arc;

/// Who is to answer a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Any,
    Node(i32),
    Controller,
    Coordinator(String),
    Leader { topic: TopicId, partition: i32 },
}

/// Whether a request may be sent again when its answer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    Freely,
    UnlessDone,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    options: ClientBuilder,
}

#[derive(Debug)]
pub(crate) struct TopicView {
    pub id: TopicId,
    pub partitions: Vec<PartitionView>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PartitionView {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl TopicView {
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub fn partition(&self, partition: i32) -> Option<PartitionView> {
        self.partitions.get(usize::try_from(partition).ok()?).copied()
    }
}

impl Cluster {
    pub async fn connect(
        options: ClientBuilder,
        _addresses: Vec<Address>,
    ) -> Result<Arc<Self>, ConnectError> {
        Ok(Arc::new(Self { options }))
    }

    pub fn shut_down(&self) {}

    pub async fn close(&self) {}

    pub fn rebind(&self) -> std::io::Result<()> {
        Ok(())
    }

    pub fn broker_info(&self) -> BrokerInfo {
        BrokerInfo {
            cluster_id: String::new(),
            node_id: 0,
            version: String::new(),
            durability: Durability::Ephemeral,
            protocol_version: 0,
        }
    }

    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub fn node_ids(&self) -> Vec<i32> {
        Vec::new()
    }

    pub async fn call<C: Call>(
        &self,
        _target: Target,
        _repeat: Repeat,
        _request: C,
    ) -> Result<C::Answer, RequestError> {
        Err(RequestError::Closed)
    }

    pub async fn existing_topic(&self, name: &str) -> Result<Arc<TopicView>, AdminError> {
        Err(AdminError::NotFound { name: name.to_owned() })
    }

    pub async fn all_topics(&self) -> Result<MetadataResponse, RequestError> {
        Err(RequestError::Closed)
    }
}
