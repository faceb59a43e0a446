//! Random numbers for ids: the operating system's, or a sequence that a seed repeats.
//!
//! Absent on purpose: anything about secrets. Keys and certificates never come from here.

use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a node's random numbers come from. Cheap to clone; clones of a seeded one share its
/// sequence.
#[derive(Clone, Debug, Default)]
pub struct Entropy {
    seeded: Option<Seeded>,
}

#[derive(Clone, Debug)]
struct Seeded {
    seed: u64,
    state: Arc<Mutex<u64>>,
}

impl Entropy {
    /// The operating system's generator, which never runs dry once the machine is up.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A sequence (splitmix64) that `seed` repeats, for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Seeded { seed, state: Arc::new(Mutex::new(seed)) }) }
    }

    /// What repeats the sequence; `None` for the operating system's.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seeded.as_ref().map(|seeded| seeded.seed)
    }

    /// The next number.
    #[must_use]
    pub fn number(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// The next `N` bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.seeded {
            Some(seeded) => fill_seeded(&seeded.state, &mut bytes),
            None => fill_from_system(&mut bytes),
        }
        bytes
    }
}

fn fill_seeded(state: &Mutex<u64>, bytes: &mut [u8]) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    for chunk in bytes.chunks_mut(8) {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        for (place, byte) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
            *place = byte;
        }
    }
}

fn fill_from_system(bytes: &mut [u8]) {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the operating system gives no random numbers: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence_and_two_nodes_of_no_seed_differ() {
        let draw = |entropy: &Entropy| [entropy.bytes::<16>(), entropy.bytes::<16>()];
        assert_eq!(draw(&Entropy::seeded(7)), draw(&Entropy::seeded(7)));
        assert_ne!(draw(&Entropy::seeded(7)), draw(&Entropy::seeded(8)));
        let [first, second] = draw(&Entropy::seeded(7));
        assert_ne!(first, second);
        assert_ne!(Entropy::system().bytes::<16>(), Entropy::system().bytes::<16>());
    }
}
