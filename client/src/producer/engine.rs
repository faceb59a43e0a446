//! The producer at work.

use super::Options;
use super::handle::{SendHandle, Ticket};
use crate::cluster::Cluster;
use crate::error::{SendError, Unsent};
use crate::record::Record;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Engine {
    options: Options,
}

impl Engine {
    pub fn start(_cluster: Arc<Cluster>, _topic: Arc<str>, options: Options) -> Arc<Self> {
        Arc::new(Self { options })
    }

    pub fn send(&self, _record: Record) -> SendHandle {
        SendHandle::failed(SendError::Closed)
    }

    pub fn try_send(&self, _record: Record) -> Result<Ticket, SendError> {
        Err(SendError::Closed)
    }

    pub async fn ready(&self) -> Result<(), SendError> {
        Err(SendError::Closed)
    }

    pub async fn flush(&self) -> Result<(), Unsent> {
        Ok(())
    }

    pub async fn close(&self) -> Result<(), Unsent> {
        Ok(())
    }

    pub fn buffered_bytes(&self) -> usize {
        self.options.buffer_bytes
    }
}
