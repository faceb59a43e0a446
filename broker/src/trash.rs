//! What is left of deleted topics: kept for a day, gone at once when room is short. And what was
//! damaged: kept for a week.
//!
//! A deletion is a committed tombstone (D10); the log's files go to the trash of the data
//! directory, from which a mistake can be undone by hand.
//!
//! Absent on purpose: retention, whose segments never pass through the trash.

use bateau_log::{Done, SpaceState, Work};

/// How long deleted logs are kept, in milliseconds.
const TRASH_KEPT_MS: u64 = 24 * 3_600_000;
/// How long damaged files are kept, in milliseconds.
const QUARANTINE_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Between two looks at what has become too old, in milliseconds.
const TRASH_CHECK_MS: u64 = 3_600_000;

/// The trash of one data directory.
#[derive(Debug, Default)]
pub struct Trash {
    is_room_short: bool,
    next_check_wall_ms: u64,
}

impl Trash {
    /// Hears what the disk has done.
    pub fn hear(&mut self, done: &Done) {
        if let Done::Space(space) = done {
            self.is_room_short = *space != SpaceState::Ok;
            self.next_check_wall_ms = 0;
        }
    }

    /// What is to go now, if it is time to look.
    pub fn due(&mut self, now_wall_ms: u64) -> Vec<Work> {
        if now_wall_ms < self.next_check_wall_ms {
            return Vec::new();
        }
        self.next_check_wall_ms = now_wall_ms + TRASH_CHECK_MS;
        let kept_ms = if self.is_room_short { 0 } else { TRASH_KEPT_MS };
        let before = |kept_ms| now_wall_ms.saturating_sub(kept_ms);
        vec![
            Work::EmptyTrash { before_wall_ms: before(kept_ms) },
            Work::EmptyQuarantine { before_wall_ms: before(QUARANTINE_KEPT_MS) },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn emptied(trash: &mut Trash, now_wall_ms: u64) -> Option<u64> {
        trash.due(now_wall_ms).into_iter().find_map(|work| match work {
            Work::EmptyTrash { before_wall_ms } => Some(before_wall_ms),
            _ => None,
        })
    }

    #[test]
    fn the_trash_is_kept_for_a_day_and_looked_at_every_hour() {
        let mut trash = Trash::default();
        assert_eq!(emptied(&mut trash, 100 * HOUR_MS), Some(76 * HOUR_MS));
        assert_eq!(emptied(&mut trash, 101 * HOUR_MS - 1), None);
        assert_eq!(emptied(&mut trash, 101 * HOUR_MS), Some(77 * HOUR_MS));
    }

    #[test]
    fn what_was_damaged_is_kept_for_a_week_also_when_room_is_short() {
        let mut trash = Trash::default();
        trash.hear(&Done::Space(SpaceState::Soft));
        let kept = trash.due(200 * HOUR_MS).into_iter().find_map(|work| match work {
            Work::EmptyQuarantine { before_wall_ms } => Some(before_wall_ms),
            _ => None,
        });
        assert_eq!(kept, Some(32 * HOUR_MS));
    }

    #[test]
    fn all_of_it_goes_at_once_when_room_is_short() {
        let mut trash = Trash::default();
        assert!(!trash.due(100 * HOUR_MS).is_empty());
        trash.hear(&Done::Space(SpaceState::Soft));
        assert_eq!(emptied(&mut trash, 100 * HOUR_MS + 1), Some(100 * HOUR_MS + 1));
    }
}
