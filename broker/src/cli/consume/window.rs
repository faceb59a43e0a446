//! What `consume` reads of each partition, and when it has read enough.
//!
//! ```text
//!   range + bounds of every partition ──► Window ──show?──► each record
//!                                            └─done?──► end of the command
//! ```
//!
//! A range with an end never waits for records that are not there yet: it ends at the latest at
//! the end that the partition had when the command began.
//!
//! Absent on purpose: order between partitions. There is none to keep.

use crate::cli::lookup::Extent;
use crate::cli::offsets::Range;
use std::collections::BTreeMap;

/// What is still to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// First offset, and the first one that is not read any more.
    partitions: BTreeMap<i32, (u64, Option<u64>)>,
    /// Partitions that are not read to their end, of those that have one.
    open_count: usize,
    /// Records that may still be shown.
    left_count: Option<u64>,
}

impl Window {
    /// Cuts `range` out of each partition.
    ///
    /// - `exit_at_end`: stop at the present end also where the range goes on.
    /// - `count_max`: records to show, over all partitions.
    pub(super) fn new(
        range: Range,
        exit_at_end: bool,
        count_max: Option<u64>,
        extents: &BTreeMap<i32, Extent>,
    ) -> Self {
        let cut = |extent: &Extent| {
            let Extent { bounds, from_found, until_found } = *extent;
            let from = range.from.resolve(bounds, from_found);
            let until = range.until.map(|until| until.resolve(bounds, until_found));
            (from, until.or(exit_at_end.then_some(bounds.end)))
        };
        let partitions: BTreeMap<i32, (u64, Option<u64>)> =
            extents.iter().map(|(partition, extent)| (*partition, cut(extent))).collect();
        let is_open = |(from, until): &&(u64, Option<u64>)| until.is_none_or(|until| *from < until);
        let open_count = partitions.values().filter(is_open).count();
        Self { partitions, open_count, left_count: count_max }
    }

    /// The partitions that have something to read, with their first offsets.
    pub(super) fn starts(&self) -> impl Iterator<Item = (i32, u64)> {
        let open = self
            .partitions
            .iter()
            .filter(|(_, (from, until))| until.is_none_or(|until| *from < until));
        open.map(|(partition, (from, _))| (*partition, *from))
    }

    /// All partitions.
    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// Whether reading ends by itself, in every partition.
    pub(super) fn has_end(&self) -> bool {
        self.partitions.values().all(|(_, until)| until.is_some())
    }

    /// Whether everything has been read.
    pub(super) fn is_done(&self) -> bool {
        self.open_count == 0 || self.is_full()
    }

    /// Whether `partition` has been read to the end that it has here.
    pub(super) fn is_read(&self, partition: i32) -> bool {
        let found = self.partitions.get(&partition);
        found.is_some_and(|(from, until)| until.is_some_and(|until| *from >= until))
    }

    /// Whether as many records were shown as were asked for.
    pub(super) fn is_full(&self) -> bool {
        self.left_count == Some(0)
    }

    /// Takes note of a record. Returns whether it is inside.
    pub(super) fn admit(&mut self, partition: i32, offset: u64) -> bool {
        if self.is_full() {
            return false;
        }
        let Some((_, until)) = self.partitions.get(&partition).copied() else { return false };
        let inside = until.is_none_or(|until| offset < until);
        if let Some(left) = self.left_count.as_mut().filter(|_| inside) {
            *left -= 1;
        }
        // Also a record behind the end says that the end is reached: offsets may have gaps.
        self.advance(partition, offset.saturating_add(1));
        inside
    }

    /// Takes note that everything before `position` has been read.
    pub(super) fn advance(&mut self, partition: i32, position: u64) {
        let Some((from, until)) = self.partitions.get_mut(&partition) else { return };
        let was_open = until.is_none_or(|until| *from < until);
        *from = position.max(*from);
        if was_open && until.is_some_and(|until| *from >= until) {
            self.open_count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::offsets::Bounds;
    use crate::cli::offsets::Place::{self, AfterStart, BeforeEnd, Offset, Time};

    /// Partition 0 has the offsets 10 to 19, partition 1 has none, partition 2 has 0 to 4.
    fn extents() -> BTreeMap<i32, Extent> {
        let extent = |start, end| Extent {
            bounds: Bounds { start, end },
            from_found: None,
            until_found: None,
        };
        BTreeMap::from([(0, extent(10, 20)), (1, extent(7, 7)), (2, extent(0, 5))])
    }

    fn window(from: Place, until: Option<Place>, exit_at_end: bool) -> Window {
        Window::new(Range { from, until }, exit_at_end, None, &extents())
    }

    fn starts(window: &Window) -> Vec<(i32, u64)> {
        window.starts().collect()
    }

    #[test]
    fn an_open_range_reads_every_partition_and_is_never_done() {
        let mut window = window(AfterStart(0), None, false);
        assert_eq!(starts(&window), [(0, 10), (1, 7), (2, 0)]);
        assert!((10..30).all(|offset| window.admit(0, offset)));
        assert!(!window.is_done());
    }

    #[test]
    fn up_to_the_present_end_leaves_out_what_is_empty_and_what_comes_later() {
        let mut window = window(AfterStart(0), Some(BeforeEnd(0)), false);
        assert_eq!(starts(&window), [(0, 10), (2, 0)]);
        assert!((10..20).all(|offset| window.admit(0, offset)));
        assert!(!window.admit(0, 20));
        assert!((0..5).all(|offset| !window.is_done() && window.admit(2, offset)));
        assert!(window.is_done());
    }

    #[test]
    fn exit_at_end_is_the_same_without_an_end_in_the_range() {
        let closed = window(BeforeEnd(2), Some(BeforeEnd(0)), false);
        assert_eq!(window(BeforeEnd(2), None, true), closed);
        assert_eq!(starts(&closed), [(0, 18), (2, 3)]);
    }

    #[test]
    fn a_range_that_reaches_beyond_the_end_stops_there() {
        let mut window = window(Offset(18), Some(Offset(1000)), false);
        assert_eq!(starts(&window), [(0, 18)]);
        assert!(window.admit(0, 18) && window.admit(0, 19));
        assert!(window.is_done());
    }

    #[test]
    fn a_gap_at_the_end_of_a_range_does_not_hold_it_open() {
        let mut window = window(Offset(12), Some(Offset(15)), false);
        assert!(window.admit(0, 12));
        assert!(!window.admit(0, 16));
        assert!(window.is_done());
        let mut quiet = super::Window::new(
            Range { from: Offset(12), until: Some(Offset(15)) },
            false,
            None,
            &extents(),
        );
        quiet.advance(0, 15);
        assert!(quiet.is_done());
    }

    #[test]
    fn moments_were_looked_up_per_partition() {
        let mut extents = extents();
        let first = extents.get_mut(&0).unwrap();
        (first.from_found, first.until_found) = (Some(13), Some(16));
        let range = Range { from: Time(1), until: Some(Time(2)) };
        let window = Window::new(range, false, None, &extents);
        assert_eq!(starts(&window), [(0, 13)]);
    }

    #[test]
    fn a_count_goes_over_all_partitions() {
        let range = Range { from: AfterStart(0), until: None };
        let mut window = Window::new(range, false, Some(3), &extents());
        assert!(window.admit(0, 10) && window.admit(2, 0) && window.admit(0, 11));
        assert!(window.is_done() && !window.admit(2, 1));
        assert!(Window::new(range, false, Some(0), &extents()).is_done());
    }
}
