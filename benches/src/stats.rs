//! Medians, spreads, pairwise ratios, quantiles; and the order in which pairs run.
//!
//! Absent on purpose: means. One stall of the machine would decide them.

use crate::failure::Failure;

/// What several slices of the same contract gave.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// The middle one; the mean of the middle two where their count is even.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Sums samples up; `None` without samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// Distance of the extremes as a share of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The ratio of each pair. Both sides of a pair met the same state of the machine, so this says
/// more than the ratio of two medians.
#[must_use]
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// The nearest-rank quantile of sorted samples; `None` without samples.
///
/// - `share`: 0 to 1.
#[must_use]
pub fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    // Samples of one slice are thousands, far within what a float counts exactly.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Runs pairs in the order A B, B A, A B, …, so that a drift of the machine hits both sides.
///
/// # Errors
/// The first failure of either side.
pub fn interleave<A, B>(
    pairs: usize,
    mut ours: impl FnMut(usize) -> Result<A, Failure>,
    mut theirs: impl FnMut(usize) -> Result<B, Failure>,
) -> Result<(Vec<A>, Vec<B>), Failure> {
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        if pair % 2 == 0 {
            all_ours.push(ours(pair)?);
            all_theirs.push(theirs(pair)?);
        } else {
            all_theirs.push(theirs(pair)?);
            all_ours.push(ours(pair)?);
        }
    }
    Ok((all_ours, all_theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_median_ignores_one_stalled_slice() {
        let summary = Summary::of(&[9.0, 1.0, 10.0, 11.0, 8.0]).unwrap();
        assert_eq!(summary, Summary { median: 9.0, min: 1.0, max: 11.0 });
        assert!((summary.spread() - 10.0 / 9.0).abs() < 1e-9);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).map(|summary| summary.median), Some(2.5));
        assert_eq!(Summary::of(&[7.0]).map(|summary| summary.median), Some(7.0));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_pair_is_compared_with_its_own_probe() {
        assert_eq!(ratios(&[1.0, 6.0], &[2.0, 3.0]), [0.5, 2.0]);
    }

    #[test]
    fn a_quantile_is_a_sample_that_so_many_do_not_exceed() {
        let samples: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&samples, 0.99), Some(99));
        assert_eq!(quantile(&samples, 0.5), Some(50));
        assert_eq!(quantile(&samples, 0.0), Some(1));
        assert_eq!(quantile(&samples, 1.0), Some(100));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn sides_take_turns_at_going_first() {
        let order = RefCell::new(String::new());
        let say = |letter| {
            let order = &order;
            move |_| {
                order.borrow_mut().push(letter);
                Ok(())
            }
        };
        interleave(3, say('a'), say('b')).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
    }

    #[test]
    fn the_first_failure_ends_the_pairs() {
        let fail = |pair| match pair {
            1 => Err(Failure::unexpected("pair", pair, "none")),
            _ => Ok(()),
        };
        let mut runs = 0;
        let count = |_| {
            runs += 1;
            Ok(())
        };
        assert!(interleave(5, fail, count).is_err());
        assert_eq!(runs, 2);
    }
}
