//! What `bateau-client` computes must equal what the real clients compute from the same input.
//!
//! ```text
//!   generated groups ──> our assignors ──────────────┐
//!          └──> Parts.java, parts.js (no broker) ────┴─> equal, member by member
//! ```
//!
//! | ours | asked |
//! |---|---|
//! | `range`, `roundrobin`, `cooperative-sticky` | Java 4.3.1 and 3.9.1 |
//! | `RoundRobinAssigner` | kafkajs 2.2.4 |
//! | subscriptions and assignments as bytes | each by its own client |
//! | the partition of a key | Java and kafkajs |
//! | compressed batches | Java reads each codec |
//!
//! The inputs come from a fixed seed. Sticky groups live through several rounds: what a round
//! assigns is what members own in the next, so a difference anywhere would grow.

mod groups;

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;

use bateau_client::group::{Assignment, Assignor, Leadership};
use bateau_client::partitioner::{murmur2, partition_for_key};
use bateau_protocol::record::{BatchBuilder, Compression, NewRecord};
use bytes::Bytes;
use fastrand::Rng;
use kafka_clients_tests::runtimes::{self, Installed};
use kafka_clients_tests::scratch::ScratchDirectory;

use crate::groups::Question;

/// Every run asks the same questions.
const SEED: u64 = 0x0ba7_ea05;

/// Generated inputs for each assignor, at least.
const INPUTS: usize = 500;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2), "{text:?} is no hex");
    let byte = |place: usize| u8::from_str_radix(&text[place..place + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Gives the program one question per line and returns its answers.
fn ask(mut command: Command, questions: &[String]) -> Vec<String> {
    let scratch = ScratchDirectory::new("parts");
    let path = scratch.path().join("questions");
    std::fs::write(&path, questions.join("\n") + "\n").expect("a scratch file can be written");
    let input = File::open(&path).expect("it was written");
    let output = command.stdin(input).output().expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    let answers = String::from_utf8(output.stdout).expect("answers are text");
    let answers: Vec<String> = answers.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), questions.len(), "{command:?}: one answer per question\n{errors}");
    answers
}

/// The programs of the clients that know `assignor`, with their names.
fn clients_of(assignor: Assignor, test: &str) -> Vec<(String, Command)> {
    let kafkajs = assignor == Assignor::KafkaJsRoundRobin;
    let found = if kafkajs { kafkajs_program() } else { java_programs() };
    if found.is_empty() {
        runtimes::skip(test, "needs Node.js with npm, and a JDK with Maven");
    }
    found
}

fn java_programs() -> Vec<(String, Command)> {
    let programs = runtimes::java_parts().unwrap_or_default();
    let named =
        |(version, installed): (&str, Installed)| (format!("Java {version}"), installed.command());
    programs.into_iter().map(named).collect()
}

fn kafkajs_program() -> Vec<(String, Command)> {
    let named = |installed: Installed| {
        let mut command = installed.command();
        command.arg("parts.js");
        ("kafkajs".to_owned(), command)
    };
    runtimes::node().map(named).into_iter().collect()
}

/// One member's part of an answer, and of what we would have answered.
#[derive(PartialEq, Debug)]
struct Part {
    assignment: Assignment,
    metadata: Bytes,
}

fn parts(answer: &str) -> BTreeMap<String, Part> {
    let part = |text: &str| {
        let fields: Vec<&str> = text.split('/').collect();
        let [member, assignment, metadata] = fields[..] else { panic!("{text:?} in {answer:?}") };
        let assignment = Assignment::decode(&from_hex(assignment)).expect("a client wrote it");
        (member.to_owned(), Part { assignment, metadata: from_hex(metadata) })
    };
    answer.split(',').map(part).collect()
}

fn ours(question: &Question) -> BTreeMap<String, Part> {
    let members = question.members.clone();
    let name = question.assignor.name();
    let leadership = Leadership::read(name, members.clone(), question.own_topics.clone());
    let assigned = leadership.expect("our own bytes").assign(&question.partition_counts);
    assert_eq!(assigned.len(), members.len(), "everybody gets an assignment");
    let metadata = members.into_iter().map(|member| member.metadata);
    let part = |((member, bytes), metadata): ((String, Bytes), Bytes)| {
        let assignment = Assignment::decode(&bytes).expect("we wrote it");
        (hex(member.as_bytes()), Part { assignment, metadata })
    };
    assigned.into_iter().zip(metadata).map(part).collect()
}

/// Asks all clients all questions and compares.
fn compare(test: &str, questions: &[Question]) {
    let assignor = questions[0].assignor;
    let lines: Vec<String> = questions.iter().map(Question::to_line).collect();
    for (client, command) in clients_of(assignor, test) {
        let answers = ask(command, &lines);
        for ((question, line), answer) in questions.iter().zip(&lines).zip(&answers) {
            assert!(!answer.starts_with("error"), "{client} threw {answer}\n{question:#?}");
            let (mut found, expected) = (ours(question), parts(answer));
            // kafkajs writes no user data as empty, and says nothing to members without partitions.
            for (member, part) in &mut found {
                if let Some(other) = expected.get(member)
                    && other.assignment == Assignment::default()
                {
                    part.assignment.user_data = None;
                }
            }
            assert_eq!(found, expected, "{client}, left is ours\n{line}\n{question:#?}");
        }
    }
}

#[test]
fn range_shares_out_as_java_does() {
    compare("range", &groups::plain(Assignor::Range, INPUTS, &mut Rng::with_seed(SEED)));
}

#[test]
fn round_robin_shares_out_as_java_does() {
    compare("roundrobin", &groups::plain(Assignor::RoundRobin, INPUTS, &mut Rng::with_seed(SEED)));
}

#[test]
fn kafkajs_round_robin_shares_out_as_kafkajs_does() {
    let mut random = Rng::with_seed(SEED);
    let questions = groups::plain(Assignor::KafkaJsRoundRobin, INPUTS, &mut random);
    compare("RoundRobinAssigner", &questions);
}

#[test]
fn cooperative_sticky_shares_out_as_java_does_where_all_subscribe_to_the_same() {
    let questions = groups::sticky(true, INPUTS, &mut Rng::with_seed(SEED));
    compare("cooperative-sticky", &questions);
}

#[test]
fn cooperative_sticky_shares_out_as_java_does_where_subscriptions_differ() {
    let questions = groups::sticky(false, INPUTS, &mut Rng::with_seed(SEED));
    compare("cooperative-sticky", &questions);
}

#[test]
fn cooperative_sticky_settles_contradicting_claims_as_java_does() {
    let questions = groups::claims(INPUTS, &mut Rng::with_seed(SEED));
    compare("cooperative-sticky", &questions);
}

/// Keys of every length up to 40, many of them alike.
fn keys(random: &mut Rng) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..=40).map(|length| vec![0xff; length]).collect();
    keys.extend((0..200).map(|number| format!("customer-{number}").into_bytes()));
    keys.extend(["", "grüße", "注文", "😀"].map(|text| text.as_bytes().to_vec()));
    for _ in 0..INPUTS {
        let length = random.usize(..40);
        keys.push((0..length).map(|_| random.u8(..)).collect());
    }
    keys
}

#[test]
fn keys_go_to_the_partitions_that_java_and_kafkajs_choose() {
    let mut random = Rng::with_seed(SEED);
    let keys = keys(&mut random);
    let counts: Vec<u32> = keys.iter().map(|_| random.u32(1..=1_000)).collect();
    let question = |(key, count): (&Vec<u8>, &u32)| format!("hash\t{}\t{count}", hex(key));
    let questions: Vec<String> = keys.iter().zip(&counts).map(question).collect();
    let clients: Vec<_> = java_programs().into_iter().chain(kafkajs_program()).collect();
    if clients.len() < 3 {
        runtimes::skip("keys", "needs Node.js with npm, and a JDK with Maven");
    }
    for (client, command) in clients {
        let answers = ask(command, &questions);
        for ((key, count), answer) in keys.iter().zip(&counts).zip(answers) {
            let count = (*count).try_into().expect("counts start at 1");
            let partition = partition_for_key(key, count);
            let hash = murmur2(key).cast_signed();
            let both = format!("{hash}\t{partition}");
            // kafkajs shows the partition alone.
            assert!(answer == both || answer == partition.to_string(), "{client}: {key:?}");
        }
    }
}

#[test]
fn java_reads_the_batches_of_every_codec() {
    let Some(java) = runtimes::java_batches() else {
        return runtimes::skip("batches", "needs a JDK with Maven");
    };
    let mut random = Rng::with_seed(SEED);
    let mut builder = BatchBuilder::new();
    let mut expected = Vec::new();
    for number in 0..2_000_i64 {
        let value = format!("order {number} of somebody, {}", random.u32(..)).into_bytes();
        let key = (number % 3 != 0).then_some(&value[..8]);
        let headers: &[(&[u8], Option<&[u8]>)] =
            if number % 5 == 0 { &[(b"trace", Some(b"on")), (b"none", None)] } else { &[] };
        let timestamp = 1_700_000_000_000 + number;
        let record = NewRecord { timestamp, key, value: Some(&value), headers };
        builder.push(&record).expect("it fits");
        let key = key.map_or_else(|| "-".to_owned(), hex);
        let headers = if headers.is_empty() { "" } else { "7472616365:6f6e;6e6f6e65:-" };
        expected.push(format!("{number}/{timestamp}/{key}/{}/{headers}", hex(&value)));
    }
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let batch = |codec| builder.build_with(codec).expect("it has records");
    let questions: Vec<String> = codecs.iter().map(|codec| hex(&batch(*codec))).collect();
    assert!(questions[0].len() > 200_000, "several blocks of every codec");
    for ((codec, question), answer) in
        codecs.iter().zip(&questions).zip(ask(java.command(), &questions))
    {
        assert_eq!(answer, expected.join(","), "{codec:?}");
        assert!(*codec == Compression::None || question.len() < questions[0].len());
    }
}
