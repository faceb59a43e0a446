//! Producers and consumers of values instead of bytes.
//!
//! Absent on purpose: schemas beside the code.

use crate::codec::Codec;
use crate::consumer::{Consumer, Delivery};
use crate::error::{CommitError, ConsumeError, SendError};
use crate::producer::{Producer, SendHandle};
use crate::record::Record;
use std::fmt;
use std::marker::PhantomData;

/// Sends values of type `T`. Made by [`Producer::typed`].
pub struct TypedProducer<T, C> {
    producer: Producer,
    codec: C,
    values: PhantomData<fn(&T)>,
}

impl<T, C> fmt::Debug for TypedProducer<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedProducer").field("producer", &self.producer).finish_non_exhaustive()
    }
}

impl Producer {
    /// Sends values by a codec. The producer's options stay.
    #[must_use]
    pub const fn typed<T, C: Codec<T>>(self, codec: C) -> TypedProducer<T, C> {
        TypedProducer { producer: self, codec, values: PhantomData }
    }
}

impl<T, C: Codec<T>> TypedProducer<T, C> {
    /// Sends a value; as [`Producer::send`] otherwise. A value that the codec does not take gives
    /// [`SendError::Encode`].
    pub fn send(&self, value: &T) -> SendHandle {
        self.send_in(value, Record::default())
    }

    /// Sends a value in a record that has its key, headers, time or partition already.
    pub fn send_in(&self, value: &T, record: Record) -> SendHandle {
        let mut bytes = Vec::new();
        match self.codec.encode(value, &mut bytes) {
            Ok(()) => self.producer.send(Record { value: Some(bytes.into()), ..record }),
            Err(error) => SendHandle::failed(SendError::Encode { reason: error.to_string() }),
        }
    }

    /// The producer behind it, to flush and to close.
    #[must_use]
    pub const fn producer(&self) -> &Producer {
        &self.producer
    }
}

/// Delivers values of type `T`. Made by [`Consumer::typed`].
///
/// A record that its codec does not take does not stop it: [`TypedConsumer::try_next`] says so once
/// and goes on behind it.
pub struct TypedConsumer<T, C> {
    consumer: Consumer,
    codec: C,
    /// What could not be decoded, until the next call.
    undecodable: Option<Delivery>,
    values: PhantomData<fn() -> T>,
}

impl<T, C> fmt::Debug for TypedConsumer<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedConsumer").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Delivers values by a codec.
    #[must_use]
    pub const fn typed<T, C: Codec<T>>(self, codec: C) -> TypedConsumer<T, C> {
        TypedConsumer { consumer: self, codec, undecodable: None, values: PhantomData }
    }
}

impl Delivery {
    /// The value; `None` for a tombstone.
    ///
    /// # Errors
    /// [`ConsumeError::Decode`].
    pub fn decode<T>(&self, codec: &impl Codec<T>) -> Result<Option<T>, ConsumeError> {
        let value = self.value.as_ref().map(|value| codec.decode(value)).transpose();
        value.map_err(|error| ConsumeError::Decode {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.offset,
            reason: error.to_string(),
        })
    }
}

impl<T, C: Codec<T>> TypedConsumer<T, C> {
    /// The next value, with its delivery; `None` in the value's place for a tombstone.
    ///
    /// # Errors
    /// [`ConsumeError`]. After [`ConsumeError::Decode`] the next call acknowledges the record that
    /// could not be decoded, and goes on behind it, unless [`TypedConsumer::undecodable`] was asked
    /// for it.
    ///
    /// Cancel-safe: no record is lost.
    pub async fn try_next(&mut self) -> Result<Option<(Option<T>, Delivery)>, ConsumeError> {
        if let Some(delivery) = self.undecodable.take() {
            // Where it does not count any more, somebody else has it, or it comes again.
            if let Err(CommitError::Request(error)) = delivery.ack().await {
                return Err(error.into());
            }
        }
        let Some(delivery) = self.consumer.try_next().await? else { return Ok(None) };
        match delivery.decode(&self.codec) {
            Ok(value) => Ok(Some((value, delivery))),
            Err(error) => {
                self.undecodable = Some(delivery);
                Err(error)
            }
        }
    }

    /// The record of the [`ConsumeError::Decode`] that the last call gave: to keep it elsewhere.
    /// Whoever takes it acknowledges it.
    pub const fn undecodable(&mut self) -> Option<Delivery> {
        self.undecodable.take()
    }

    /// The consumer behind it, to seek, to commit and to close. A record that could not be decoded
    /// counts as not acknowledged then.
    #[must_use]
    pub fn into_inner(self) -> Consumer {
        self.consumer
    }
}
