//! What is wrong with links, told as often as it helps: peers that are refused come again and
//! again.
//!
//! Invariant: what is remembered is bounded; when there is no room, everything is told once more.
//!
//! Absent on purpose: counting, which metrics do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After so long the same is told again.
const REPEAT: Duration = Duration::from_secs(60);
/// Senders that are remembered.
const REMEMBERED_MAX: usize = 256;

/// What was said last of whom. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Complaints<K>(Arc<Mutex<BTreeMap<K, (String, Instant)>>>);

impl<K: Ord> Complaints<K> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Whether this is to be told: it is something else than the last time, or long ago.
    pub fn is_news(&self, of: K, text: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, at)) = told.get(&of)
            && last == text
            && now.duration_since(*at) < REPEAT
        {
            return false;
        }
        if told.len() >= REMEMBERED_MAX && !told.contains_key(&of) {
            told.clear();
        }
        told.insert(of, (text.to_owned(), now));
        true
    }

    /// All is well with this one: the next complaint is news.
    pub fn settle(&self, of: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_told_once_a_minute() {
        let (complaints, now) = (Complaints::new(), Instant::now());
        assert!(complaints.is_news(1, "expired", now));
        assert!(!complaints.is_news(1, "expired", now));
        assert!(complaints.is_news(2, "expired", now), "another one is another matter");
        assert!(complaints.is_news(1, "unknown authority", now));
        let later = now + REPEAT;
        assert!(complaints.is_news(1, "unknown authority", later));
        assert!(!complaints.is_news(1, "unknown authority", later));
        complaints.settle(&1);
        assert!(complaints.is_news(1, "unknown authority", later));
    }

    #[test]
    fn no_number_of_strangers_fills_the_memory() {
        let (complaints, now) = (Complaints::new(), Instant::now());
        assert!((0..10_000).all(|stranger| complaints.is_news(stranger, "no", now)));
        assert!(complaints.0.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
