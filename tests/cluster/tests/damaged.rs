//! Damage to what has no other copy: the loss is named, accepted, and the partition goes on with a
//! gap that everybody can see.

use cluster_tests::commanded::Cluster;
use cluster_tests::{NODES, TIMEOUT};
use kafka_clients_tests::data_dir::{self, FRAME_HEADER_BYTES, Frame, flip, segments};
use kafka_clients_tests::program::{Program, wait_until};
use kafka_clients_tests::raw::batch::{Batch, Stored, stored};
use kafka_clients_tests::raw::calls;
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::{namespace, runtimes};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TOPIC: &str = "orders";
/// Batches of one record each, of which a few fill the first segment.
const BATCHES: usize = 30;
const BATCH_BYTES: usize = 10_000;

const READS_ON: &str = "every_client_reads_on_behind_a_lost_end";
/// For a client, start of its runtime included.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

fn kafka(id: usize) -> String {
    format!("127.0.0.1:{}", 9_090 + id)
}

/// Produces a batch where the partition is led, and returns it with its offset.
fn produce(fill: u8) -> (i64, Vec<u8>) {
    produce_to(TOPIC, fill)
}

fn produce_to(topic: &str, fill: u8) -> (i64, Vec<u8>) {
    let batch = Batch::of(&[&[fill; BATCH_BYTES]]).encode();
    let mut offset = None;
    wait_until("somebody takes a record", TIMEOUT, || {
        offset = NODES.into_iter().find_map(|id| {
            std::net::TcpStream::connect(kafka(id)).ok()?;
            let mut connection = Connection::open(&kafka(id));
            let produced = calls::produce(&mut connection, topic, 0, &batch);
            (produced.code == code::NONE).then_some(produced.base_offset)
        });
        offset.is_some()
    });
    (offset.expect("it was taken"), batch)
}

/// All batches of the partition, from a node that leads it.
fn read(id: usize) -> Vec<Stored> {
    let mut connection = Connection::open(&kafka(id));
    let (mut offset, mut all) = (0, Vec::new());
    loop {
        let fetched = calls::fetch(&mut connection, TOPIC, 0, offset, Duration::ZERO);
        assert_eq!(fetched.code, code::NONE, "from offset {offset}");
        let batches = stored(&fetched.records);
        let Some(last) = batches.last() else { return all };
        // One without records is of one offset.
        offset = last.base_offset + i64::from(last.record_count.max(1));
        all.extend(batches.into_iter().filter(|batch| batch.record_count > 0));
    }
}

fn assert_read(found: &[Stored], wanted: &[(i64, Vec<u8>)]) {
    let offsets =
        |batches: &[Stored]| batches.iter().map(|one| one.base_offset).collect::<Vec<_>>();
    let wanted_offsets: Vec<i64> = wanted.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets(found), wanted_offsets);
    for (found, (offset, batch)) in found.iter().zip(wanted) {
        assert!(found.is(batch), "offset {offset}");
    }
}

/// The log with the most records in a node's directory.
fn log_of(cluster: &Cluster, id: usize) -> PathBuf {
    let logs = data_dir::logs(&cluster.trio.data(id));
    logs.into_iter().max_by_key(|log| records(log)).expect("there are logs")
}

fn records(log: &Path) -> usize {
    data_dir::all_frames(log).iter().filter(|frame| frame.kind == "records").count()
}

/// Cuts the last batch of a log short, and returns its offset.
fn cut_last(log: &Path) -> u64 {
    let file = segments(log).pop().expect("it has one");
    let frames = data_dir::frames(&file);
    let cut = frames.iter().rfind(|frame| frame.kind == "records").expect("it has one");
    let open = fs::File::options().write(true).open(&file).expect("it is there");
    open.set_len(cut.position + 100).expect("it is cut");
    cut.base_offset
}

/// Stops a node whose next start knows how far its logs reach: one has walked them all.
fn kill_twice(cluster: &mut Cluster, id: usize) {
    cluster.trio.kill(id);
    cluster.trio.launch(id);
    cluster.trio.until_ready(id);
    cluster.trio.kill(id);
}

/// Index, kind, offset and number of offsets of every frame, which is the same on all replicas.
fn shape(log: &Path) -> Vec<(u64, String, u64, u64)> {
    let shape = |frame: Frame| (frame.index, frame.kind, frame.base_offset, frame.record_count);
    data_dir::all_frames(log).into_iter().map(shape).collect()
}

/// One row for the segment that is gone, and one for the frame that is not what it was.
fn assert_rows(rows: &[Value], gone: &[Frame], flipped: &Frame) {
    let (ends, name) = (&gone[gone.len() - 1], format!("{TOPIC}/0"));
    let row = |row: &Value| {
        let keys = ["first_index", "last_index", "first_offset", "end_offset"];
        keys.map(|key| row[format!("lost_{key}")].as_u64().expect("a number"))
    };
    assert!(rows.len() == 2 && rows.iter().all(|row| row["partition"] == name), "{rows:?}");
    let end_offset = ends.base_offset + ends.record_count;
    assert_eq!(row(&rows[0]), [gone[0].index, ends.index, gone[0].base_offset, end_offset]);
    let Frame { index, base_offset, .. } = *flipped;
    assert_eq!(row(&rows[1]), [index, index, base_offset, base_offset + 1]);
}

/// Replicas that come later have the same gap.
fn grow_and_compare(
    mut cluster: Cluster,
    log: &Path,
    lost_frames: usize,
    mut batches: Vec<(i64, Vec<u8>)>,
) {
    cluster.add(1, 2, &[1]);
    cluster.add(2, 3, &[1, 2]);
    cluster.run(1, &["topic", "alter", TOPIC, "--replicas", "3"]);
    for id in [2, 3] {
        cluster.until_node(1, id, "all of its copies", |node| {
            node["replicas"] == 17 && node["incoming"] == 0 && node["metadata"] != "learner"
        });
    }
    let gaps = shape(log).into_iter().filter(|(_, kind, ..)| kind == "gap").count();
    assert_eq!(gaps, lost_frames);
    let name = log.file_name().expect("it has a name").to_owned();
    for id in [2, 3] {
        let copy = cluster.trio.data(id).join("partitions").join(&name);
        wait_until("the copies are equal", TIMEOUT, || {
            let (here, there) = (shape(log), shape(&copy));
            there.len() > BATCHES && here.ends_with(&there)
        });
    }
    cluster.trio.kill(1);
    batches.push(produce(100));
    let leader = [2, 3].into_iter().find(|id| {
        let mut connection = Connection::open(&kafka(*id));
        calls::fetch(&mut connection, TOPIC, 0, 0, Duration::ZERO).code == code::NONE
    });
    assert_read(&read(leader.expect("somebody leads it")), &batches);
}

#[test]
fn the_only_copy_goes_on_without_what_it_has_lost() {
    if !namespace::enter("the_only_copy_goes_on_without_what_it_has_lost") {
        return;
    }
    let mut cluster = Cluster::founded_by(&[1]);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "1"]);
    let mut batches: Vec<_> = (0..BATCHES).map(|at| produce(at as u8)).collect();
    let log = log_of(&cluster, 1);
    cluster.trio.kill(1);
    let (code, _, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(4), "nothing is to be recovered: {said}");

    // All of the second segment, and a bit of the third one.
    let files = segments(&log);
    let gone = data_dir::frames(&files[1]);
    let flipped = data_dir::frames(&files[2])[2].clone();
    assert_eq!(flipped.kind, "records");
    flip(&files[2], flipped.position + FRAME_HEADER_BYTES + 100);
    fs::remove_file(&files[1]).expect("it is there");
    let lost = |offset: i64| {
        let offset = u64::try_from(offset).expect("offsets are positive");
        let begins = gone.first().map(|frame| frame.base_offset);
        let ends = gone.last().map(|frame| frame.base_offset + frame.record_count);
        offset == flipped.base_offset || (begins..ends).contains(&Some(offset))
    };

    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    let mut connection = Connection::open(&kafka(1));
    let batch = Batch::of(&[b"refused"]).encode();
    let refused = calls::produce(&mut connection, TOPIC, 0, &batch);
    assert_eq!(refused.code, code::KAFKA_STORAGE_ERROR);
    cluster.trio.kill(1);

    let (code, rows, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert_rows(&rows, &gone, &flipped);
    assert!(!files[1].exists(), "nothing was changed");
    let (code, _, said) = cluster.unsafe_recover(1, &["--accept", "yes"]);
    assert_eq!(code, Some(1), "{said}");
    let loss = "lose what is damaged";
    assert!(said.contains(loss), "{said}");
    let (code, _, said) = cluster.unsafe_recover(1, &["--accept", loss]);
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(4), "it is done: {said}");

    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    batches.retain(|(offset, _)| !lost(*offset));
    assert!((5..BATCHES - 1).contains(&batches.len()), "{}", batches.len());
    assert_read(&read(1), &batches);
    batches.push(produce(99));
    assert_eq!(batches.last().map(|(offset, _)| *offset), i64::try_from(BATCHES).ok());
    assert_read(&read(1), &batches);
    let consumed = cluster.run(1, &["consume", TOPIC, "--exit-at-end"]);
    assert_eq!(consumed.len(), batches.len());

    grow_and_compare(cluster, &log, gone.len() + 1, batches);
}

#[test]
fn a_lost_end_is_passed_over_and_no_offset_names_two_records() {
    if !namespace::enter("a_lost_end_is_passed_over_and_no_offset_names_two_records") {
        return;
    }
    let mut cluster = Cluster::founded_by(&[1]);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "1"]);
    let mut batches: Vec<_> = (0..8).map(produce).collect();
    let log = log_of(&cluster, 1);
    kill_twice(&mut cluster, 1);
    let cut = cut_last(&log);
    let (code, rows, said) = cluster.unsafe_recover(1, &["--accept", "lose what is damaged"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["lost_first_offset"], cut);
    assert!(rows[0]["lost_end_offset"].is_null(), "nobody knows: {rows:?}");
    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    batches.pop();
    // Whoever reads to the end gets there, although no record is there.
    let consumed = cluster.run(1, &["consume", TOPIC, "--exit-at-end"]);
    assert_eq!(consumed.len(), batches.len());
    let (code, _, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(3), "it runs: {said}");
    let next = produce(99);
    assert!(next.0 > i64::from(u32::MAX), "{}", next.0);
    batches.push(next);
    assert_read(&read(1), &batches);
    let consumed = cluster.run(1, &["consume", TOPIC, "--exit-at-end"]);
    assert_eq!(consumed.len(), batches.len());
}

/// Programs that write to a topic, read it from its beginning in a group, and go on.
fn clients() -> Vec<(&'static str, Command)> {
    let kafkajs = runtimes::node().map(|node| {
        let mut command = node.command();
        command.arg("group.js");
        command
    });
    let others = [
        ("confluent-kafka", runtimes::python()),
        ("kafka-python-3", runtimes::python()),
        ("aiokafka", runtimes::python()),
        ("franz-go", runtimes::go()),
        ("sarama", runtimes::go()),
        ("kafka-go", runtimes::go()),
        ("java", runtimes::java()),
    ];
    let others = others.map(|(name, runtime)| (name, runtime.map(|runtime| runtime.command())));
    let all = [("kafkajs", kafkajs)].into_iter().chain(others);
    let mut present = Vec::new();
    for (name, command) in all {
        match command {
            Some(command) => present.push((name, command)),
            None => runtimes::skip(READS_ON, &format!("{name} has no runtime here")),
        }
    }
    present
}

#[test]
fn every_client_reads_on_behind_a_lost_end() {
    // What is missing is installed out here, where there is a network.
    let clients = clients();
    if !namespace::enter(READS_ON) {
        return;
    }
    let mut cluster = Cluster::founded_by(&[1]);
    for (name, _) in &clients {
        cluster.run(1, &["topic", "create", name, "--partitions", "1"]);
        produce_to(name, 7);
    }
    kill_twice(&mut cluster, 1);
    let mut logs = data_dir::logs(&cluster.trio.data(1));
    logs.retain(|log| records(log) > 0);
    assert_eq!(logs.len(), clients.len());
    assert!(logs.iter().all(|log| cut_last(log) == 0));
    let (code, rows, said) = cluster.unsafe_recover(1, &["--accept", "lose what is damaged"]);
    assert!(code == Some(0) && rows.len() == clients.len(), "{said}");
    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    let programs: Vec<_> = clients
        .into_iter()
        .map(|(name, mut command)| {
            command.args([name, &kafka(1), "group", name, name]);
            Program::start(name, command)
        })
        .collect();
    for mut program in programs {
        let status = program.wait_for_exit(READ_TIMEOUT);
        assert!(status.success(), "{}: {status}{}", program.name(), program.tail());
        let lines = program.lines();
        let resumed = lines.iter().any(|line| line.event() == Some("resumed"));
        assert!(resumed, "{}{}", program.name(), program.tail());
    }
}

#[test]
fn a_partition_with_one_copy_is_closed_without_giving_anybody_up() {
    if !namespace::enter("a_partition_with_one_copy_is_closed_without_giving_anybody_up") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "1", "--replicas", "1"]);
    let mut batches: Vec<_> = (0..BATCHES).map(|at| produce(at as u8)).collect();
    let described = cluster.run(1, &["topic", "describe", TOPIC]);
    let home = described[0]["partitions"][0]["replicas"][0].as_u64().expect("a node");
    let home = usize::try_from(home).expect("of three");
    let log = log_of(&cluster, home);
    cluster.trio.kill(home);
    let gone = data_dir::frames(&segments(&log)[1]);
    fs::remove_file(&segments(&log)[1]).expect("it is there");
    let (code, rows, said) = cluster.unsafe_recover(home, &["--only-damaged", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(rows.len() == 1 && rows[0]["lost_first_index"] == gone[0].index, "{rows:?}");
    let accepted = ["--only-damaged", "--accept", "lose what is damaged"];
    let (code, _, said) = cluster.unsafe_recover(home, &accepted);
    assert_eq!(code, Some(0), "{said}");
    cluster.trio.launch(home);
    cluster.trio.until_ready(home);
    let range = gone[0].base_offset..gone[gone.len() - 1].base_offset + 1;
    batches.retain(|(offset, _)| !range.contains(&u64::try_from(*offset).expect("positive")));
    batches.push(produce(99));
    assert_read(&read(home), &batches);
    let nodes = cluster.run(home, &["node", "list"]);
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["alive"] == true), "{nodes:?}");
}

#[test]
fn what_all_copies_have_lost_at_the_same_place_is_given_up_on_one() {
    if !namespace::enter("what_all_copies_have_lost_at_the_same_place_is_given_up_on_one") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "1"]);
    let mut batches: Vec<_> = (0..BATCHES).map(|at| produce(at as u8)).collect();
    let name = log_of(&cluster, 1).file_name().expect("it has a name").to_owned();
    let logs = NODES.map(|id| cluster.trio.data(id).join("partitions").join(&name));
    // A follower writes a moment later.
    wait_until("all copies are equal", TIMEOUT, || {
        logs.iter().all(|log| shape(log) == shape(&logs[0]))
    });
    NODES.into_iter().for_each(|id| cluster.trio.kill(id));
    let gone = data_dir::frames(&segments(&logs[0])[1]);
    for log in &logs {
        fs::remove_file(&segments(log)[1]).expect("it is there");
    }
    NODES.into_iter().for_each(|id| cluster.trio.launch(id));
    NODES.into_iter().for_each(|id| cluster.trio.until_ready(id));
    cluster.run(1, &["topic", "create", "whole", "--partitions", "1"]);
    NODES.into_iter().for_each(|id| cluster.trio.kill(id));

    let (code, rows, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    let lost: Vec<&Value> = rows.iter().filter(|row| row["lost_first_index"].is_u64()).collect();
    assert_eq!(lost.len(), 1, "{rows:?}");
    assert_eq!(lost[0]["lost_first_index"], gone[0].index);
    let loss = "lose what only nodes 2, 3 hold and what is damaged";
    let (code, _, said) = cluster.unsafe_recover(1, &["--accept", loss]);
    assert_eq!(code, Some(0), "{said}");

    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    for id in [2, 3] {
        fs::remove_dir_all(cluster.trio.data(id)).expect("it is there");
        cluster.run(1, &["node", "replace", &id.to_string(), "--yes"]);
        cluster.trio.launch(id);
        cluster.trio.until_ready(id);
    }
    for id in [2, 3] {
        cluster.until_node(1, id, "all of its copies", |node| {
            node["replicas"] == 18 && node["incoming"] == 0 && node["metadata"] == "voter"
        });
    }
    let range = gone[0].base_offset..gone[gone.len() - 1].base_offset + 1;
    batches.retain(|(offset, _)| !range.contains(&u64::try_from(*offset).expect("positive")));
    batches.push(produce(99));
    for log in &logs[1..] {
        wait_until("the copies are equal", TIMEOUT, || {
            let (here, there) = (shape(&logs[0]), shape(log));
            there.len() > BATCHES && here.ends_with(&there)
        });
    }
    let leader = NODES.into_iter().find(|id| {
        let mut connection = Connection::open(&kafka(*id));
        calls::fetch(&mut connection, TOPIC, 0, 0, Duration::ZERO).code == code::NONE
    });
    assert_read(&read(leader.expect("somebody leads it")), &batches);
}
