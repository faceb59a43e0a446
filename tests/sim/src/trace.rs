//! The hash over everything that happened: equal hashes mean equal runs.
//!
//! Absent on purpose: strength against anybody who wants two runs to look alike.

/// A hash that grows with every event and effect.
#[derive(Clone, Copy, Debug)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Trace {
    /// Adds a number.
    pub fn add(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }

    /// Adds numbers.
    pub fn add_all<const N: usize>(&mut self, values: [u64; N]) {
        values.into_iter().for_each(|value| self.add(value));
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0
    }
}
