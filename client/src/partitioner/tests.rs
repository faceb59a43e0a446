//! Vectors of the real clients, and the two rules for records without a key.

use super::*;

const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

#[test]
fn keys_have_the_hashes_and_partitions_of_the_real_clients() {
    let text = include_str!("vectors.txt");
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [key, hash, partition] = fields[..] else { panic!("{line:?}") };
        let byte = |place: usize| u8::from_str_radix(&key[place..place + 2], 16).unwrap();
        let key: Vec<u8> = (0..key.len()).step_by(2).map(byte).collect();
        assert_eq!(murmur2(&key).cast_signed().to_string(), hash, "{line:?}");
        assert_eq!(partition_for_key(&key, FOUR).to_string(), partition, "{line:?}");
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn one_partition_takes_every_key() {
    for key in [&b""[..], b"a", &[0xff; 9]] {
        assert_eq!(partition_for_key(key, NonZeroU32::MIN), 0);
    }
}

#[test]
fn records_without_a_key_stay_until_a_batch_is_full_and_then_go_elsewhere() {
    let available = [0, 1, 2, 5];
    let mut chooser = KeylessChooser::new(Keyless::Sticky);
    let mut random = Rng::with_seed(9);
    let mut seen = [0; 6];
    let mut last = None;
    for _ in 0..200 {
        let first = chooser.choose(10_000, &available, &mut random).unwrap();
        assert_ne!(Some(first), last, "another than before");
        // The one that crosses the line still goes with its batch.
        assert_eq!(chooser.choose(10_000, &available, &mut random), Some(first));
        last = Some(first);
        seen[usize::try_from(first).unwrap()] += 1;
    }
    assert_eq!((seen[3], seen[4]), (0, 0));
    assert!([0, 1, 2, 5].iter().all(|partition| seen[*partition] > 30), "{seen:?}");
}

#[test]
fn a_partition_that_lost_its_leader_is_left_at_once() {
    let mut random = Rng::with_seed(1);
    for rule in [Keyless::Sticky, Keyless::RoundRobin] {
        let mut chooser = KeylessChooser::new(rule);
        assert_eq!(chooser.choose(1, &[7], &mut random), Some(7));
        assert_eq!(chooser.choose(1, &[3], &mut random), Some(3));
        assert_eq!(chooser.choose(1, &[], &mut random), None);
        assert_eq!(chooser.choose(1, &[4], &mut random), Some(4));
    }
}

#[test]
fn the_only_partition_may_follow_itself() {
    let mut chooser = KeylessChooser::new(Keyless::Sticky);
    for _ in 0..10 {
        assert_eq!(chooser.choose(STICKY_BYTES, &[2], &mut Rng::with_seed(1)), Some(2));
    }
}

#[test]
fn round_robin_takes_every_partition_in_turn_from_a_random_start() {
    let available = [1, 2, 9];
    let mut starts = [false; 10];
    for seed in 0..50 {
        let mut random = Rng::with_seed(seed);
        let mut chooser = KeylessChooser::new(Keyless::RoundRobin);
        let mut next = || chooser.choose(1, &available, &mut random).unwrap();
        let turns: Vec<i32> = (0..6).map(|_| next()).collect();
        assert_eq!(turns[..3], turns[3..]);
        let mut sorted = turns[..3].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, available);
        starts[usize::try_from(turns[0]).unwrap()] = true;
    }
    assert!(available.iter().all(|start| starts[usize::try_from(*start).unwrap()]));
}
