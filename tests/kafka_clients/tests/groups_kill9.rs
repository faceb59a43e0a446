//! `kill -9` at the moments that matter to groups and to idempotent producers: what was answered
//! holds, and what nobody was told may be told again.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_clients_tests::broker::{Broker, Subject};
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::batch::Batch;
use kafka_clients_tests::raw::calls::{self, LATEST, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::groups::{self, Member};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Whether what the tests expect is Bateau's alone: Kafka forgets what it did not write yet.
fn is_bateau() -> bool {
    Subject::of_this_run() == Subject::Bateau
}

fn start() -> Broker {
    Broker::start_with(&[])
}

fn kill_and_restart(broker: &mut Broker) -> Connection {
    broker.kill();
    broker.restart();
    Connection::open(broker.bootstrap())
}

/// Joins as a dynamic member: the first answer gives an id, the second a place.
fn join_anew(connection: &mut Connection, member: &mut Member) -> i32 {
    let refused = groups::join(connection, member);
    assert_eq!(refused.code, code::MEMBER_ID_REQUIRED);
    let joined = groups::join(connection, member);
    assert_eq!((joined.code, &joined.id), (code::NONE, &member.id));
    joined.generation
}

#[test]
fn a_kill_between_join_and_sync_costs_no_generation_and_no_static_id() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let mut member = Member::named("static", "instance-1");
    let mut generation = 0;
    for round in 0..4 {
        let joined = groups::join(&mut connection, &mut member);
        assert_eq!(joined.code, code::NONE, "round {round}");
        assert!(joined.generation >= generation, "{generation} fell to {}", joined.generation);
        assert_eq!((joined.leader, joined.members), (member.id.clone(), vec![member.id.clone()]));
        generation = joined.generation;
        let id = member.id.clone();
        // The answer is out, the assignment is not: this is where the node goes.
        connection = kill_and_restart(&mut broker);
        // The member is known by the id that it was given, in its own or in a later generation.
        let beat = groups::heartbeat(&mut connection, &member);
        assert!([code::NONE, code::REBALANCE_IN_PROGRESS].contains(&beat), "heartbeat: {beat}");
        let joined = groups::join(&mut connection, &mut member);
        assert_eq!((joined.code, joined.id), (code::NONE, id.clone()), "round {round}");
        assert!(joined.generation >= generation, "{generation} fell to {}", joined.generation);
        generation = joined.generation;
        let assignments = [(id.as_str(), &b"everything"[..])];
        let synced = groups::sync(&mut connection, &member, &assignments);
        assert_eq!(synced, (code::NONE, b"everything".to_vec()));
    }
}

#[test]
fn a_static_member_that_lost_its_id_gets_its_place_back_by_its_name() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let mut member = Member::named("named", "instance-1");
    let first = groups::join(&mut connection, &mut member);
    assert_eq!(first.code, code::NONE);
    let assignments = [(member.id.as_str(), &b"mine"[..])];
    assert_eq!(groups::sync(&mut connection, &member, &assignments).0, code::NONE);
    connection = kill_and_restart(&mut broker);
    // The service was restarted as well: it knows its name and nothing else.
    let mut again = Member::named("named", "instance-1");
    let joined = groups::join(&mut connection, &mut again);
    assert_eq!(joined.code, code::NONE);
    assert!(joined.generation >= first.generation);
    let assignments = [(again.id.as_str(), &b"mine"[..])];
    let (error, assignment) = groups::sync(&mut connection, &again, &assignments);
    assert_eq!((error, assignment), (code::NONE, b"mine".to_vec()));
    // It replaced itself: there is one member, and the old id is nobody's.
    if member.id != again.id {
        let stale = Member { generation: again.generation, ..member };
        assert_ne!(groups::heartbeat(&mut connection, &stale), code::NONE);
    }
    assert_eq!(groups::heartbeat(&mut connection, &again), code::NONE);
}

#[test]
fn a_dynamic_member_and_its_assignment_outlive_the_kill() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "dynamic");
    let mut member = Member::new("dynamic");
    let generation = join_anew(&mut connection, &mut member);
    let assignments = [(member.id.as_str(), &b"mine"[..])];
    let synced = groups::sync(&mut connection, &member, &assignments);
    assert_eq!(synced, (code::NONE, b"mine".to_vec()));
    connection = kill_and_restart(&mut broker);
    // Nobody notices: same generation, same assignment, and its commits count.
    assert_eq!(groups::heartbeat(&mut connection, &member), code::NONE);
    assert_eq!(groups::sync(&mut connection, &member, &[]), (code::NONE, b"mine".to_vec()));
    assert_eq!(groups::commit(&mut connection, &member, &topic, 11), code::NONE);
    let old = Member { generation: generation - 1, ..member.clone() };
    assert_eq!(groups::commit(&mut connection, &old, &topic, 3), code::ILLEGAL_GENERATION);
    connection = kill_and_restart(&mut broker);
    assert_eq!(groups::committed(&mut connection, "dynamic", &topic), (code::NONE, 11));
    assert_eq!(groups::heartbeat(&mut connection, &member), code::NONE);
}

#[test]
fn a_second_member_after_the_kill_begins_a_later_generation() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let mut first = Member::new("pair");
    let generation = join_anew(&mut connection, &mut first);
    connection = kill_and_restart(&mut broker);
    let mut second_connection = Connection::open(broker.bootstrap());
    let mut second = Member::new("pair");
    assert_eq!(groups::join(&mut second_connection, &mut second).code, code::MEMBER_ID_REQUIRED);
    second_connection.send_frame(&groups::join_request(&second).frame);
    // The first member is asked to join again, and does.
    wait_until("word of the rebalance", TIMEOUT, || {
        groups::heartbeat(&mut connection, &first) == code::REBALANCE_IN_PROGRESS
    });
    let joined = groups::join(&mut connection, &mut first);
    assert_eq!(joined.code, code::NONE);
    assert!(joined.generation > generation, "{generation}, then {}", joined.generation);
}

#[test]
fn an_answered_commit_outlives_the_kill_for_every_group() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "committed");
    let groups: Vec<Member> =
        (0..40).map(|number| Member::new(&format!("group-{number}"))).collect();
    for round in 0_i64..3 {
        for (group, number) in groups.iter().zip(0_i64..) {
            let offset = round * 100 + number;
            assert_eq!(groups::commit(&mut connection, group, &topic, offset), code::NONE);
        }
        // Right behind the last answer.
        connection = kill_and_restart(&mut broker);
        for (group, number) in groups.iter().zip(0_i64..) {
            let committed = groups::committed(&mut connection, &group.group, &topic);
            assert_eq!(committed, (code::NONE, round * 100 + number), "{}", group.group);
        }
    }
}

#[test]
fn no_producer_id_is_given_twice() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut given = BTreeSet::new();
    for _ in 0..4 {
        let mut connection = Connection::open(broker.bootstrap());
        for _ in 0..5 {
            let (id, epoch) = calls::new_producer(&mut connection);
            assert_eq!(epoch, 0);
            assert!(given.insert(id), "{id} was given before");
        }
        broker.kill();
        broker.restart();
    }
}

#[test]
fn a_retry_after_the_kill_is_answered_with_its_original() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "retried");
    let (id, epoch) = calls::new_producer(&mut connection);
    let batch =
        |sequence: i32| Batch::of(&[b"a", b"b"]).sequenced(id, epoch, sequence * 2).encode();
    let produced = |offset| Produced { code: code::NONE, base_offset: offset };
    for round in 0..3 {
        let base = i64::from(round) * 6;
        let numbers = [round * 3, round * 3 + 1, round * 3 + 2];
        for (number, offset) in numbers[..2].iter().zip([base, base + 2]) {
            let answer = calls::produce(&mut connection, &topic, 0, &batch(*number));
            assert_eq!(answer, produced(offset));
        }
        // Written, and its ack is never read.
        let lost = calls::produce_request(&topic, 0, -1, &batch(numbers[2]));
        connection.send_frame(&lost.frame);
        let mut other = Connection::open(broker.bootstrap());
        wait_until("the batch is there", TIMEOUT, || {
            calls::list_offset(&mut other, &topic, LATEST) == (code::NONE, base + 6)
        });
        connection = kill_and_restart(&mut broker);
        // The retry, and those of the batches before it that are among the last five.
        for (number, offset) in numbers.iter().zip([base, base + 2, base + 4]).rev() {
            let answer = calls::produce(&mut connection, &topic, 0, &batch(*number));
            assert_eq!(answer, produced(offset), "round {round}");
        }
        let gap = calls::produce(&mut connection, &topic, 0, &batch(numbers[2] + 2));
        assert_eq!(gap.code, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
        let kept = calls::fetch_all(&mut connection, &topic, 0);
        assert_eq!(kept.len(), 3 * usize::try_from(round + 1).expect("it is positive"));
    }
}

#[test]
fn an_older_epoch_stays_fenced_after_the_kill() {
    if !is_bateau() {
        return;
    }
    let mut broker = start();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "fenced");
    let (id, epoch) = calls::new_producer(&mut connection);
    let batch = |epoch: i16| Batch::of(&[b"x"]).sequenced(id, epoch, 0).encode();
    assert_eq!(calls::produce(&mut connection, &topic, 0, &batch(epoch + 1)).code, code::NONE);
    connection = kill_and_restart(&mut broker);
    let fenced = calls::produce(&mut connection, &topic, 0, &batch(epoch));
    assert_eq!(fenced.code, code::INVALID_PRODUCER_EPOCH);
}
