//! Pseudo-random messages, from a seed.

use super::super::{Chain, ErrorCode, Text};
use crate::ids::TopicId;
use bytes::Bytes;

/// A stream of pseudo-random numbers (xorshift*), the same for the same seed.
#[derive(Debug)]
pub(crate) struct Source(u64);

impl Source {
    /// Starts a stream.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() >> 33) as usize % bound
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// The bytes with one to four places damaged: set, flipped, cut or shifted.
    pub(crate) fn damaged(&mut self, bytes: &[u8]) -> Bytes {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(4) {
            if damaged.is_empty() {
                break;
            }
            let place = self.below(damaged.len());
            match self.below(4) {
                0 => damaged[place] = 0xff,
                1 => damaged[place] ^= 1 << self.below(8),
                2 => damaged.truncate(place),
                _ => damaged.insert(place, self.bits() as u8),
            }
        }
        Bytes::from(damaged)
    }

    /// Bytes of a length below `bound`.
    pub(crate) fn bytes(&mut self, bound: usize) -> Bytes {
        let length = self.below(bound);
        (0..length).map(|_| self.bits() as u8).collect()
    }
}

/// A value of which samples can be drawn.
pub(crate) trait Sample: Sized {
    /// Draws a value that `version` can say; null only where `nullable`.
    fn sample(source: &mut Source, version: i16, nullable: bool) -> Self;
}

macro_rules! sample_numbers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(source: &mut Source, _: i16, _: bool) -> Self {
                match source.below(6) {
                    0 => <$type>::MAX,
                    1 => <$type>::MIN,
                    2 => 0,
                    3 => (0 as $type).wrapping_sub(1),
                    _ => source.bits() as $type,
                }
            }
        }
    )*};
}

sample_numbers!(i8, i16, i32, i64, u64);

impl Sample for bool {
    fn sample(source: &mut Source, _: i16, _: bool) -> Self {
        source.one_in(2)
    }
}

impl Sample for ErrorCode {
    fn sample(source: &mut Source, version: i16, nullable: bool) -> Self {
        Self(i16::sample(source, version, nullable))
    }
}

impl Sample for TopicId {
    fn sample(source: &mut Source, _: i16, _: bool) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&source.bits().to_be_bytes());
        id[8..].copy_from_slice(&source.bits().to_be_bytes());
        Self(id)
    }
}

impl Sample for Text {
    fn sample(source: &mut Source, _: i16, _: bool) -> Self {
        // Long ones now and then: a compact length takes two bytes from 127 on.
        let bound = if source.one_in(12) { 300 } else { 12 };
        let length = source.below(bound);
        let letters = (0..length).map(|_| char::from(b'a' + source.below(26) as u8));
        letters.collect::<String>().into()
    }
}

impl Sample for Bytes {
    fn sample(source: &mut Source, _: i16, _: bool) -> Self {
        source.bytes(40)
    }
}

impl Sample for Chain {
    fn sample(source: &mut Source, _: i16, _: bool) -> Self {
        source.bytes(200).into()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source, version: i16, nullable: bool) -> Self {
        (0..source.below(4)).map(|_| T::sample(source, version, nullable)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source, version: i16, nullable: bool) -> Self {
        (!(nullable && source.one_in(4))).then(|| T::sample(source, version, nullable))
    }
}
