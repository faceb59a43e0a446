//! Assignments that are right by hand, rules that hold for any input, and bytes that clients send.
//! That the assignments equal those of the real clients is asserted in `tests/kafka_clients`.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn owned(partitions: &[(&str, i32)]) -> Vec<TopicPartition> {
    let owned = |(topic, partition): &(&str, i32)| TopicPartition {
        topic: (*topic).to_owned(),
        partition: *partition,
    };
    partitions.iter().map(owned).collect()
}

fn member(id: &str, topics: &[&str], owned_now: &[(&str, i32)], generation: i32) -> Member {
    let subscription = Subscription {
        topics: texts(topics),
        owned: owned(owned_now),
        generation: (generation >= 0).then_some(generation),
        ..Subscription::default()
    };
    Member { member_id: id.to_owned(), instance_id: None, subscription }
}

fn counts(topics: &[(&str, u32)]) -> BTreeMap<String, u32> {
    topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

/// One line per member: `m1 a0 a1 b2`.
fn render(assigned: &[MemberAssignment]) -> String {
    let line = |member: &MemberAssignment| {
        let mut line = member.member_id.clone();
        for (topic, numbers) in &member.partitions {
            numbers.iter().for_each(|number| line.push_str(&format!(" {topic}{number}")));
        }
        line
    };
    assigned.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn assigned(assignor: Assignor, members: &[Member], topics: &[(&str, u32)]) -> String {
    let own = &members[0].subscription.topics;
    render(&assignor.assign(members, own, &counts(topics)))
}

const TOPICS: [(&str, u32); 2] = [("a", 5), ("b", 3)];

fn pair() -> [Member; 2] {
    ["m2", "m1"].map(|id| member(id, &["b", "a"], &[], -1))
}

#[test]
fn two_members_share_two_topics_by_each_rule() {
    for (assignor, expected) in [
        (Assignor::Range, "m2 a3 a4 b2\nm1 a0 a1 a2 b0 b1"),
        (Assignor::RoundRobin, "m2 a1 a3 b0 b2\nm1 a0 a2 a4 b1"),
        // The leader's own order: b before a.
        (Assignor::KafkaJsRoundRobin, "m2 a0 a2 a4 b1\nm1 a1 a3 b0 b2"),
        (Assignor::CooperativeSticky, "m2 a1 a3 b0 b2\nm1 a0 a2 a4 b1"),
    ] {
        assert_eq!(assigned(assignor, &pair(), &TOPICS), expected, "{assignor:?}");
    }
}

#[test]
fn a_static_member_keeps_its_place_whatever_id_it_is_given() {
    let mut members = pair();
    members[0].instance_id = Some("zz".to_owned());
    assert_eq!(assigned(Assignor::Range, &members, &TOPICS), "m2 a0 a1 a2 b0 b1\nm1 a3 a4 b2");
}

#[test]
fn a_partition_changes_hands_in_two_rounds() {
    let all = [("a", 0), ("a", 1), ("a", 2), ("a", 3)];
    let members = [member("old", &["a"], &all, 4), member("new", &["a"], &[], -1)];
    let first = assigned(Assignor::CooperativeSticky, &members, &[("a", 4)]);
    assert_eq!(first, "old a0 a1\nnew");
    let members = [member("old", &["a"], &all[..2], 5), member("new", &["a"], &[], 5)];
    let second = assigned(Assignor::CooperativeSticky, &members, &[("a", 4)]);
    assert_eq!(second, "old a0 a1\nnew a2 a3");
}

#[test]
fn who_missed_a_generation_keeps_only_what_nobody_else_claims() {
    let members = [
        member("late", &["a"], &[("a", 0), ("a", 1)], 3),
        member("there", &["a"], &[("a", 1), ("a", 2)], 4),
    ];
    let answer = assigned(Assignor::CooperativeSticky, &members, &[("a", 4)]);
    // What is left, a3, changes no hands.
    assert_eq!(answer, "late a0 a3\nthere a1 a2");
}

#[test]
fn members_that_want_different_topics_get_as_even_counts_as_they_can() {
    let members = [
        member("both", &["a", "b"], &[("a", 0), ("a", 1), ("b", 0), ("b", 1)], 1),
        member("only-b", &["b"], &[], -1),
        member("only-c", &["c", "gone"], &[], -1),
    ];
    let topics = [("a", 2), ("b", 2), ("c", 1)];
    // b0 and b1 wait until their owner has given them up.
    let answer = assigned(Assignor::CooperativeSticky, &members, &topics);
    assert_eq!(answer, "both a0 a1\nonly-b\nonly-c c0");
}

#[test]
fn a_topic_that_came_back_smaller_leaves_no_ghosts() {
    let members = [
        member("m1", &["a"], &[("a", 0), ("a", 7), ("a", -1)], 1),
        member("m2", &["a"], &[("a", 8), ("a", i32::MAX)], 1),
    ];
    let answer = assigned(Assignor::CooperativeSticky, &members, &[("a", 2)]);
    assert_eq!(answer, "m1 a0\nm2 a1");
}

#[test]
fn a_member_that_wants_nothing_gets_nothing() {
    let members = [member("idle", &[], &[("a", 0)], 1), member("m", &["a"], &[], -1)];
    for assignor in [Assignor::Range, Assignor::RoundRobin] {
        assert_eq!(assigned(assignor, &members, &[("a", 2)]), "idle\nm a0 a1");
    }
    // What it holds is given up first.
    let answer = assigned(Assignor::CooperativeSticky, &members, &[("a", 2)]);
    assert_eq!(answer, "idle\nm a1");
}

#[test]
fn nobody_and_nothing_are_shared_out_too() {
    for assignor in Assignor::ALL {
        assert_eq!(assignor.assign(&[], &texts(&["a"]), &counts(&TOPICS)), []);
        assert_eq!(assigned(assignor, &pair(), &[("c", 3)]), "m2\nm1");
        assert_eq!(assigned(assignor, &pair(), &[("a", 0)]), "m2\nm1");
        assert_eq!(assigned(assignor, &pair(), &[("a", u32::MAX)]), "m2\nm1");
    }
}

#[test]
fn names_are_what_other_clients_call_them() {
    let names = Assignor::ALL.map(Assignor::name);
    assert_eq!(names, ["range", "roundrobin", "cooperative-sticky", "RoundRobinAssigner"]);
    for assignor in Assignor::ALL {
        assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
    }
    assert_eq!(Assignor::from_name("sticky"), None);
}

#[test]
fn a_member_rebalances_cooperatively_only_if_all_its_assignors_can() {
    use RebalanceProtocol::{Cooperative, Eager};
    assert_eq!(rebalance_protocol(&[Assignor::CooperativeSticky]), Cooperative);
    let both = [Assignor::CooperativeSticky, Assignor::Range];
    assert_eq!(rebalance_protocol(&both), Eager);
    assert_eq!(rebalance_protocol(&[]), Eager);
}

fn joined(id: &str, metadata: &[u8]) -> JoinedMember {
    let metadata = Bytes::copy_from_slice(metadata);
    JoinedMember { member_id: id.to_owned(), instance_id: None, metadata }
}

#[test]
fn a_leader_names_the_member_whose_subscription_is_broken() {
    let good = Assignor::Range.metadata(&texts(&["a"]), &PartitionsByTopic::new(), None);
    let members = vec![joined("good", &good), joined("bad", &good[..5])];
    let refused = Leadership::read("range", members, texts(&["a"])).unwrap_err();
    let error = ProtocolError::Truncated { field: "topics", needed: 1 };
    assert_eq!(refused, LeadError::Subscription { member_id: "bad".to_owned(), error });
    let refused = Leadership::read("uniform", Vec::new(), Vec::new()).unwrap_err();
    assert_eq!(refused, LeadError::UnknownAssignor { found: "uniform".to_owned() });
}

#[test]
fn a_leader_watches_the_topics_that_its_assignor_looks_at() {
    let nothing = PartitionsByTopic::new();
    let watched = |assignor: Assignor| {
        let metadata = assignor.metadata(&texts(&["x", "own"]), &nothing, None);
        let members = vec![joined("m", &metadata)];
        let leadership = Leadership::read(assignor.name(), members, texts(&["own"])).unwrap();
        leadership.topics().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(watched(Assignor::RoundRobin), ["own", "x"]);
    assert_eq!(watched(Assignor::KafkaJsRoundRobin), ["own"]);
}

#[test]
fn the_bytes_of_a_subscription_are_known_by_heart() {
    let subscription = Subscription {
        topics: texts(&["a"]),
        user_data: Some(Bytes::from_static(b"\x07")),
        owned: owned(&[("b", 2), ("a", 1), ("b", 0)]),
        generation: Some(258),
        rack: Some("r".to_owned()),
    };
    let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 7];
    bytes.extend([0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 1]);
    bytes.extend([0, 1, b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
    bytes.extend([0, 0, 1, 2, 0, 1, b'r']);
    assert_eq!(subscription.encode(3), bytes);
    let sorted = owned(&[("a", 1), ("b", 0), ("b", 2)]);
    let read = Subscription::decode(&bytes.clone().into()).unwrap();
    assert_eq!(read, Subscription { owned: sorted, ..subscription.clone() });
    // A later version has more fields, which are not looked at.
    bytes[1] = 9;
    bytes.extend([1, 2, 3]);
    assert_eq!(Subscription::decode(&bytes.into()).unwrap(), read);
    assert_eq!(subscription.encode(0), [0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 7][..]);
    assert_eq!(subscription.encode(77), subscription.encode(3));
}

#[test]
fn fields_that_a_client_leaves_out_at_the_end_are_absent() {
    // Version 1 without owned partitions, as older Go clients send it.
    let bytes = Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff]);
    let read = Subscription::decode(&bytes).unwrap();
    assert_eq!(read, Subscription { topics: texts(&["a"]), ..Subscription::default() });
    // An assignment of kafkajs for a member without partitions: no bytes, or nothing in them.
    assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    let empty = Bytes::from_static(&[0, 0, 0, 0, 0, 0]);
    assert_eq!(Assignment::decode(&empty), Ok(Assignment::default()));
}

#[test]
fn broken_bytes_are_named() {
    let decode = |bytes: &'static [u8]| Subscription::decode(&Bytes::from_static(bytes));
    assert_eq!(decode(&[0xff, 0xfe]), Err(ProtocolError::Version { found: -2 }));
    assert_eq!(
        decode(&[0, 0, 0xff, 0xff, 0xff, 0xff]),
        Err(ProtocolError::Length { field: "topics", found: -1 })
    );
    assert_eq!(
        decode(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]),
        Err(ProtocolError::Text { field: "a topic" })
    );
    assert_eq!(
        decode(&[0, 0, 0x7f, 0xff, 0xff, 0xff]),
        Err(ProtocolError::Truncated { field: "a topic", needed: 2 })
    );
}

/// Members that want and claim anything, whether it exists or not.
fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let topic = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let claim = (topic(), -1..9_i32);
    let parts = (
        prop::collection::btree_set(topic(), 0..4),
        prop::collection::vec(claim, 0..12),
        -1..4_i32,
        prop::option::of("[a-z]"),
    );
    prop::collection::vec(parts, 0..8).prop_map(|members| {
        let built = members.into_iter().enumerate().map(|(number, parts)| {
            let (topics, claims, generation, instance) = parts;
            let topics: Vec<&str> = topics.into_iter().collect();
            let mut member = member(&format!("m{number}"), &topics, &claims, generation);
            member.instance_id = instance.map(|instance| format!("{instance}{number}"));
            member
        });
        built.collect()
    })
}

fn any_counts() -> impl Strategy<Value = BTreeMap<String, u32>> {
    prop::collection::btree_map(
        prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]),
        0..8_u32,
        0..4,
    )
}

type Given = BTreeSet<(String, i32)>;

/// All that was given. Fails where something was given twice.
fn given(assigned: &[MemberAssignment]) -> Given {
    let mut given = Given::new();
    for (topic, numbers) in assigned.iter().flat_map(|member| &member.partitions) {
        assert!(!numbers.is_empty() && numbers.is_sorted(), "{assigned:?}");
        for number in numbers {
            assert!(given.insert((topic.clone(), *number)), "{topic}-{number} in {assigned:?}");
        }
    }
    given
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_wanted_partition_goes_to_one_member_that_wants_it(
        members in any_members(), counts in any_counts(),
    ) {
        let wanted: Given = members
            .iter()
            .flat_map(|member| &member.subscription.topics)
            .flat_map(|topic| {
                let count = counts.get(topic).copied().unwrap_or(0).cast_signed();
                (0..count).map(|number| (topic.clone(), number))
            })
            .collect();
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            let assigned = assignor.assign(&members, &[], &counts);
            prop_assert_eq!(assigned.len(), members.len());
            let given = given(&assigned);
            if assignor == Assignor::CooperativeSticky {
                prop_assert!(given.is_subset(&wanted));
            } else {
                prop_assert_eq!(&given, &wanted);
            }
            for (member, assigned) in members.iter().zip(&assigned) {
                let topics = &member.subscription.topics;
                prop_assert!(assigned.partitions.keys().all(|topic| topics.contains(topic)));
            }
        }
    }

    #[test]
    fn a_cooperative_group_settles_and_then_stays_as_it_is(
        mut members in any_members(), counts in any_counts(),
    ) {
        let mut rounds = Vec::new();
        for generation in 10..15 {
            let assigned = Assignor::CooperativeSticky.assign(&members, &[], &counts);
            for (member, assigned) in members.iter_mut().zip(&assigned) {
                let flat = assigned.partitions.iter().flat_map(|(topic, numbers)| {
                    numbers.iter().map(|number| TopicPartition {
                        topic: topic.clone(),
                        partition: *number,
                    })
                });
                member.subscription.owned = flat.collect();
                member.subscription.generation = Some(generation);
            }
            rounds.push(assigned);
        }
        prop_assert_eq!(&rounds[3], &rounds[4]);
        let plain = Assignor::Range.assign(&members, &[], &counts);
        prop_assert_eq!(given(&rounds[4]), given(&plain));
    }

    #[test]
    fn what_was_written_is_read(
        topics in prop::collection::vec("[a-z]{0,5}", 0..5),
        user_data in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
        claims in prop::collection::btree_set(("[a-z]{1,3}", any::<i32>()), 0..9),
        generation in prop::option::of(0..i32::MAX),
        rack in prop::option::of("[a-z]{1,3}"),
    ) {
        let claim = |(topic, partition)| TopicPartition { topic, partition };
        let owned = claims.into_iter().map(claim).collect();
        let user_data = user_data.map(Bytes::from);
        let subscription = Subscription { topics, user_data, owned, generation, rack };
        prop_assert_eq!(Subscription::decode(&subscription.encode(3)), Ok(subscription.clone()));
        let partitions = protocol::by_topic(subscription.owned);
        let assignment = Assignment { partitions, user_data: subscription.user_data };
        for version in 0..4 {
            let read = Assignment::decode(&assignment.encode(version));
            prop_assert_eq!(read, Ok(assignment.clone()));
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(0..5_u8, 0..60)) {
        let bytes = Bytes::from(bytes);
        let _ = Subscription::decode(&bytes);
        let _ = Assignment::decode(&bytes);
    }
}
