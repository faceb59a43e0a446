//! What a raw client sees of a well-behaved conversation: every version of every API answers,
//! replies keep their order, and what Metadata names can be used at once.

use std::time::Duration;

use kafka_clients_tests::broker::{SharedBroker, Subject};
use kafka_clients_tests::raw::batch::Batch;
use kafka_clients_tests::raw::calls::{self, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::{ANSWER_TIMEOUT, Connection, Outcome};
use kafka_clients_tests::raw::requests::{self, APIS, Context};

#[test]
fn every_version_of_every_api_answers_a_valid_request() {
    let broker = SharedBroker::join();
    let connect = || Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connect(), "valid");
    let advertised = calls::advertised(&mut connect());
    for api in &APIS {
        let range = advertised.iter().find(|(key, ..)| *key == api.key);
        assert_eq!(range, Some(&(api.key, api.lowest, api.highest)), "{}", api.name);
        for version in api.lowest_served..=api.highest {
            let request = api.request(version, &Context::new(&topic));
            let body = connect().call(&request);
            assert!(!body.is_empty(), "{}", request.name);
        }
    }
    if Subject::of_this_run() == Subject::Bateau {
        assert_eq!(advertised.len(), APIS.len(), "nothing else is advertised: {advertised:?}");
    }
}

#[test]
fn a_topic_that_metadata_created_can_be_used_at_once() {
    if Subject::of_this_run() == Subject::Kafka {
        // Kafka answers UNKNOWN_TOPIC_OR_PARTITION first and creates it afterwards.
        return;
    }
    let broker = SharedBroker::join();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = requests::unique("at-once");
    assert_eq!(calls::metadata(&mut connection, &topic), (code::NONE, 4));
    for partition in 0..4 {
        let batch = Batch::of(&[b"at once"]).encode();
        let produced = calls::produce(&mut connection, &topic, partition, &batch);
        assert_eq!(produced, Produced { code: code::NONE, base_offset: 0 });
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let broker = SharedBroker::join();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "pipelined");
    let batches = |number: usize| Batch::of(&[format!("{number}").as_bytes()]).encode();
    // Produces wait for the disk, ApiVersions does not: it must not overtake them.
    let mut sent = Vec::new();
    for number in 0..40 {
        sent.push(match number % 4 {
            3 => requests::api(requests::API_VERSIONS).request(4, &Context::new(&topic)),
            _ => calls::produce_request(&topic, 0, -1, &batches(number)),
        });
    }
    for request in &sent {
        connection.send_frame(&request.frame);
    }
    for request in &sent {
        match connection.receive(ANSWER_TIMEOUT) {
            // Panics on another request's correlation id.
            Outcome::Answer(frame) => assert!(!request.body_of_answer(&frame).is_empty()),
            outcome => panic!("{}: {outcome:?}", request.name),
        }
    }
    let fetched = calls::fetch(&mut connection, &topic, 0, 30, Duration::ZERO);
    assert_eq!((fetched.code, fetched.high_watermark), (code::NONE, 30));
}

#[test]
fn a_produce_that_wants_no_reply_gets_none() {
    let broker = SharedBroker::join();
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "acks-0");
    let batch = Batch::of(&[b"unanswered"]).encode();
    let request = calls::produce_request(&topic, 0, 0, &batch);
    connection.send_frame(&request.frame);
    // The next answer on this connection is the fetch's own, which finds the record.
    let fetched = calls::fetch(&mut connection, &topic, 0, 0, Duration::from_secs(10));
    assert_eq!((fetched.code, fetched.high_watermark), (code::NONE, 1));
    assert!(!fetched.records.is_empty());
}
