//! Arrays left as the bytes that came in: walked once when the request is decoded, read element by
//! element when it is used.
//!
//! Invariant: [`Items`] are made only by a walk that found every element whole, so reading them
//! again does not fail.
//!
//! Absent on purpose: access by index, which would need the positions kept.

use crate::ids::TopicId;
use crate::wire::error::{DecodeError, DecodeFault};
use crate::wire::reader::Reader;
use crate::wire::text::Text;
use crate::wire::value::At;
use bytes::Bytes;
use std::marker::PhantomData;

/// An element that can be stepped over without being built.
pub trait Item: Sized {
    /// Bytes of the smallest encoding.
    fn bytes_min(at: At) -> usize;

    /// Checks an element and steps over it.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn skip(reader: &mut Reader) -> Result<(), DecodeError>;

    /// Builds an element out of slices of the request.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;
}

/// An array of a request, left as its bytes. A clone is a reference count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Items<T> {
    bytes: Bytes,
    count: usize,
    at: At,
    item: PhantomData<T>,
}

impl<T: Item> Items<T> {
    /// No elements.
    #[must_use]
    pub const fn none(at: At) -> Self {
        Self { bytes: Bytes::new(), count: 0, at, item: PhantomData }
    }

    /// Elements of the array.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether the array has no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Version and flexibility of the request.
    #[must_use]
    pub const fn at(&self) -> At {
        self.at
    }

    /// The elements in order, each built when it is asked for.
    #[must_use]
    pub fn iter(&self) -> ItemsIter<T> {
        let reader = Reader::new(self.bytes.clone(), self.at);
        ItemsIter { reader, left: self.count, item: PhantomData }
    }

    /// Checks an array and steps over it.
    ///
    /// # Errors
    /// Whatever is wrong with its count or its elements; a null array is an error.
    pub fn skip(reader: &mut Reader) -> Result<(), DecodeError> {
        let count = Self::count(reader)?;
        Self::skip_elements(count, reader)
    }

    /// Checks an array and keeps its bytes.
    ///
    /// # Errors
    /// As [`Items::skip`].
    pub fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = Self::count(reader)?;
        let start = reader.position();
        Self::skip_elements(count, reader)?;
        let bytes = reader.since(start);
        Ok(Self { bytes, count, at: reader.at(), item: PhantomData })
    }

    fn count(reader: &mut Reader) -> Result<usize, DecodeError> {
        let count = reader.count(T::bytes_min(reader.at()))?;
        count.ok_or_else(|| reader.fault(DecodeFault::Null))
    }

    fn skip_elements(count: usize, reader: &mut Reader) -> Result<(), DecodeError> {
        reader.enter()?;
        for _ in 0..count {
            T::skip(reader)?;
        }
        reader.leave();
        Ok(())
    }
}

/// Reads the elements of [`Items`].
#[derive(Debug)]
pub struct ItemsIter<T> {
    reader: Reader,
    left: usize,
    item: PhantomData<T>,
}

impl<T: Item> Iterator for ItemsIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // The walk has found every element whole, so an error cannot come up here.
        T::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Item> ExactSizeIterator for ItemsIter<T> {}

impl<T: Item> IntoIterator for &Items<T> {
    type Item = T;
    type IntoIter = ItemsIter<T>;

    fn into_iter(self) -> ItemsIter<T> {
        self.iter()
    }
}

impl Item for i32 {
    fn bytes_min(_: At) -> usize {
        size_of::<Self>()
    }

    fn skip(reader: &mut Reader) -> Result<(), DecodeError> {
        reader.skip(size_of::<Self>())
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.int32()
    }
}

/// How a topic stands in a request: by name up to version 12, by id from 13 on (KIP-516).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicReference {
    /// Empty where topics go by id.
    pub name: Text,
    /// Zero where topics go by name.
    pub topic_id: TopicId,
}

impl TopicReference {
    /// First version that names topics by id, of both requests that carry or ask for records.
    const ID_SINCE: i16 = 13;

    /// Bytes of the smallest encoding.
    #[must_use]
    pub const fn bytes_min(at: At) -> usize {
        match (at.version >= Self::ID_SINCE, at.flexible) {
            (true, _) => 16,
            (false, true) => 1,
            (false, false) => 2,
        }
    }

    /// Reads name or id.
    ///
    /// # Errors
    /// As text or an id; a null name is an error.
    pub fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        if reader.at().version >= Self::ID_SINCE {
            return Ok(Self { topic_id: reader.array().map(TopicId)?, ..Self::default() });
        }
        let name = reader.string()?.ok_or_else(|| reader.fault(DecodeFault::Null))?;
        Ok(Self { name, ..Self::default() })
    }
}

/// What a request has for one topic: the topic, then what it has for each partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicItems<P> {
    /// The topic.
    pub topic: TopicReference,
    /// One element for each partition.
    pub partitions: Items<P>,
}

impl<P: Item> Item for TopicItems<P> {
    fn bytes_min(at: At) -> usize {
        TopicReference::bytes_min(at) + if at.flexible { 2 } else { 4 }
    }

    fn skip(reader: &mut Reader) -> Result<(), DecodeError> {
        TopicReference::read(reader)?;
        Items::<P>::skip(reader)?;
        reader.tagged_fields(|_, _| Ok(false))
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let topic = TopicReference::read(reader)?;
        let partitions = Items::read(reader)?;
        reader.tagged_fields(|_, _| Ok(false))?;
        Ok(Self { topic, partitions })
    }
}
