//! Randomness, handed in, and what is drawn from it.
//!
//! Absent on purpose: a generator. The shell gives one that the operating system has seeded; a
//! test gives one with a seed of its own.

use bateau_protocol::ids::{Incarnation, TopicId};

use super::cluster_id::ClusterId;

/// A source of random numbers.
pub trait Entropy: Send {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

impl<F: FnMut() -> u64 + Send> Entropy for F {
    fn next_u64(&mut self) -> u64 {
        self()
    }
}

/// Draws a version 4 UUID (RFC 9562 section 5.4) whose base64 form does not begin with a dash,
/// so that tools never take it for a flag.
fn draw_uuid(entropy: &mut dyn Entropy) -> [u8; 16] {
    let bits = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
    let mut bytes = bits.to_be_bytes();
    if bytes[0] >> 2 == DASH_DIGIT {
        bytes[0] &= 0x7f;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// The base64url digit that is written as a dash.
const DASH_DIGIT: u8 = 62;

/// Draws a cluster id.
pub fn draw_cluster_id(entropy: &mut dyn Entropy) -> ClusterId {
    ClusterId(draw_uuid(entropy))
}

/// Draws a topic id that `taken` does not know.
pub(super) fn draw_topic_id(
    entropy: &mut dyn Entropy,
    taken: impl Fn(TopicId) -> bool,
) -> Option<TopicId> {
    (0..DRAWS_MAX).map(|_| TopicId(draw_uuid(entropy))).find(|id| !taken(*id))
}

/// Draws an incarnation that is neither zero nor the metadata partition's and that `taken` does
/// not know.
pub(super) fn draw_incarnation(
    entropy: &mut dyn Entropy,
    taken: impl Fn(Incarnation) -> bool,
) -> Option<Incarnation> {
    (0..DRAWS_MAX)
        .map(|_| Incarnation::new(entropy.next_u64()))
        .find(|drawn| is_drawable(*drawn) && !taken(*drawn))
}

/// Whether an incarnation may be given to a partition.
pub(super) fn is_drawable(incarnation: Incarnation) -> bool {
    incarnation != Incarnation::ZERO && incarnation != Incarnation::METADATA
}

/// Draws before a source counts as stuck. With 64 random bits one is enough, ever.
const DRAWS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_metadata_incarnation_are_never_drawn() {
        let mut script = [0, 1, 7].into_iter();
        let mut entropy = || script.next().unwrap();
        assert_eq!(draw_incarnation(&mut entropy, |_| false), Some(Incarnation::new(7)));
    }

    #[test]
    fn a_collision_is_drawn_again() {
        let mut script = [5, 5, 6].into_iter();
        let mut entropy = || script.next().unwrap();
        let drawn = draw_incarnation(&mut entropy, |taken| taken == Incarnation::new(5));
        assert_eq!(drawn, Some(Incarnation::new(6)));
    }

    #[test]
    fn a_source_that_is_stuck_is_given_up() {
        let mut entropy = || 0;
        assert_eq!(draw_incarnation(&mut entropy, |_| false), None);
        let mut entropy = || 3;
        assert_eq!(draw_topic_id(&mut entropy, |_| true), None);
    }

    #[test]
    fn an_id_is_a_version_4_uuid_and_never_looks_like_a_flag() {
        let mut entropy = || 0xfbff_ffff_ffff_ffff;
        let id = draw_cluster_id(&mut entropy);
        assert_eq!(id.0[6] >> 4, 4);
        assert_eq!(id.0[8] >> 6, 2);
        assert!(!id.to_string().starts_with('-'));
    }
}
