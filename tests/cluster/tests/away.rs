//! A node that is away for longer than the log goes back.

use cluster_tests::{NODES, TIMEOUT, Trio};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::batch::Batch;
use kafka_clients_tests::raw::bytes::Reader;
use kafka_clients_tests::raw::calls::{
    EARLIEST, Fetched, LATEST, fetch, fetch_all, list_offset, produce,
};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::requests::{CREATE_TOPICS, api};
use std::fs;
use std::time::Duration;

const TOPIC: &str = "short";

/// Topic configs under which a log loses its beginning after a few appends.
const CONFIGS: [(&str, &str); 2] = [("retention.bytes", "2000"), ("segment.ms", "50")];

fn connection(id: usize) -> Connection {
    Connection::open(&format!("127.0.0.1:{}", 9_090 + id))
}

/// A topic of one partition on all nodes.
fn create(id: usize) {
    let request = api(CREATE_TOPICS).request_with(4, |writer| {
        writer.array(1).string(TOPIC).int32(1).int16(3).array(0).array(CONFIGS.len());
        for (name, value) in CONFIGS {
            writer.string(name).nullable_string(Some(value));
        }
        writer.int32(10_000).boolean(false);
    });
    let answer = connection(id).call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    assert_eq!((reader.count(), reader.string().as_str()), (1, TOPIC));
    assert_eq!(reader.int16(), code::NONE);
}

/// The node among `ids` that leads.
fn leader(ids: &[usize]) -> usize {
    let mut found = None;
    wait_until("that somebody leads", TIMEOUT, || {
        let leads = |id: &&usize| list_offset(&mut connection(**id), TOPIC, LATEST).0 == code::NONE;
        found = ids.iter().find(leads).copied();
        found.is_some()
    });
    found.expect("it was found")
}

fn append(id: usize, number: usize) -> i64 {
    let value = format!("{number:0>200}").into_bytes();
    let batch = Batch::of(&[&value]).encode();
    let mut base_offset = None;
    wait_until("that a record is taken", TIMEOUT, || {
        let produced = produce(&mut connection(id), TOPIC, 0, &batch);
        base_offset = (produced.code == code::NONE).then_some(produced.base_offset);
        base_offset.is_some()
    });
    base_offset.expect("it was taken")
}

#[test]
fn a_node_that_was_away_for_longer_than_retention_serves_what_there_is() {
    if !namespace::enter("a_node_that_was_away_for_longer_than_retention_serves_what_there_is") {
        return;
    }
    let mut trio = Trio::new();
    for id in NODES {
        let often = "[limits]\nretention_check_ms = 50\n";
        let file = trio.configuration(id, &NODES).replace("[limits]\n", often);
        fs::write(trio.file(id), file).expect("it is written");
    }
    trio.launch_all();
    create(1);
    let first = leader(&NODES);
    let last_of_all = append(first, 0);
    let away = NODES.into_iter().find(|id| *id != first).expect("there are three");
    trio.kill(away);
    let others: Vec<usize> = NODES.into_iter().filter(|id| *id != away).collect();
    // The records that it has go, and many that it has never seen.
    let mut number = 0;
    wait_until("that the log starts behind what it has", TIMEOUT, || {
        number += 1;
        append(leader(&others), number);
        let (found, start) = list_offset(&mut connection(leader(&others)), TOPIC, EARLIEST);
        found == code::NONE && start > last_of_all + 20
    });
    trio.launch(away);
    trio.until_ready(away);
    let begins = |lines: &[String]| lines.iter().any(|line| line.contains("begins anew behind"));
    let program = trio.program(away);
    program.wait_for_error("that it got a snapshot", TIMEOUT, |lines| begins(lines).then_some(()));
    // One after the other gives way, until it is the leader and answers for itself.
    let mut led_by = leader(&NODES);
    while led_by != away {
        trio.kill(led_by);
        let left: Vec<usize> = NODES.into_iter().filter(|id| *id != led_by).collect();
        let next = leader(&left);
        trio.launch(led_by);
        trio.until_ready(led_by);
        led_by = next;
    }
    let mut asked = connection(away);
    let (found, start) = list_offset(&mut asked, TOPIC, EARLIEST);
    assert!(found == code::NONE && start > last_of_all + 20, "{found} {start}");
    let Fetched { code: below, .. } = fetch(&mut asked, TOPIC, 0, last_of_all, Duration::ZERO);
    assert_eq!(below, code::OFFSET_OUT_OF_RANGE);
    let all = fetch_all(&mut asked, TOPIC, start);
    let end = list_offset(&mut asked, TOPIC, LATEST).1;
    assert_eq!(all.first().map(|batch| batch.base_offset), Some(start));
    let sent = i64::try_from(number).expect("they are few") + 1;
    assert!(end >= sent, "{end} of {sent} are there");
    let offset = append(away, number + 1);
    assert_eq!(offset, end, "it takes records where the log ends");
}
