//! The node as a process: what it prints, how it ends, and whose directory it takes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_clients_tests::broker::{Broker, Subject, binary, free_doors, run_to_end};
use kafka_clients_tests::data_dir::{
    all_frames, assert_refused, logs_made_by, metadata_log, write,
};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::Program;
use kafka_clients_tests::raw::batch::{Batch, crc32_ieee};
use kafka_clients_tests::raw::calls::{self, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::{Connection, Outcome};
use kafka_clients_tests::raw::requests::{API_VERSIONS, FETCH, Request, api};
use kafka_clients_tests::scratch::ScratchDirectory;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

/// `bateau dev` with these arguments, ready or not.
fn dev(arguments: &[&str]) -> Program {
    let mut command = Command::new(binary());
    command.arg("dev").args(arguments).args(free_doors(arguments)).env_remove("RUST_LOG");
    Program::start("bateau dev", command)
}

fn ready(program: &Program) -> Value {
    let first = program.wait_for("ready line", TIMEOUT, |lines| lines.first().cloned());
    first.json.unwrap_or_else(|| panic!("not JSON: {}", first.text))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Asks a broker for something and expects an answer.
fn assert_answers(address: &str) {
    let mut connection = Connection::open(address);
    assert!(!calls::advertised(&mut connection).is_empty(), "{address}");
}

/// Asks an HTTP door whether its node is ready, which it must be.
fn assert_is_ready(address: &str) {
    let mut stream = TcpStream::connect(address).expect("the HTTP door listens");
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it is sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{address}: {said}");
}

/// A Fetch that waits for a record that never comes.
fn long_poll(topic: &str) -> Request {
    api(FETCH).request_with(11, |writer| {
        writer.int32(-1).int32(60_000).int32(1).int32(1 << 20).int8(0).int32(0).int32(-1);
        writer.array(1).string(topic).array(1).int32(0).int32(-1).int64(0);
        writer.int64(-1).int32(1 << 20).array(0).string("");
    })
}

/// Waits until the node has said that it stops.
fn wait_for_stopping(program: &Program) {
    program.wait_for_error("word that it stops", TIMEOUT, |lines| {
        lines.iter().any(|line| line.contains("\"stopping\"")).then_some(())
    });
}

#[test]
fn the_first_line_on_stdout_is_the_ready_line_and_nothing_follows_it() {
    let data = ScratchDirectory::new("process");
    let place = text(data.path());
    let off = ["--native", "off", "--http", "off"];
    let mut program = dev(&[&["--kafka", "127.0.0.1:0", "--data-dir", &place][..], &off].concat());
    let ready = ready(&program);
    let version: Value = serde_json::from_str(&run_to_end(&["version"]).lines[0]).unwrap();
    let (kafka, took) = (ready["kafka"].as_str().unwrap(), ready["ready_ms"].as_u64().unwrap());
    let version = &version["version"];
    let expected = format!(r#"{{"ready":true,"version":{version},"node_id":1,"kafka":"{kafka}","#)
        + &format!(r#""data_dir":"{place}","durability":"flushed","ready_ms":{took}}}"#);
    assert_eq!(program.lines()[0].text, expected);
    assert_answers(kafka);
    program.terminate();
    assert_eq!(program.wait_for_exit(TIMEOUT).code(), Some(0), "{}", program.tail());
    assert_eq!(program.lines().len(), 1, "{}", program.tail());
}

#[test]
fn a_door_has_its_key_in_the_ready_line_unless_it_is_off() {
    for (off, on) in [("native", "http"), ("http", "native")] {
        let data = ScratchDirectory::new("process");
        let place = text(data.path());
        let flag = format!("--{off}");
        let program = dev(&["--kafka", "127.0.0.1:0", "--data-dir", &place, &flag, "off"]);
        let ready = ready(&program);
        assert_eq!(ready.get(off), None, "{ready}");
        assert!(ready[on].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{ready}");
        let warned = program.errors().into_iter().find(|line| line.contains("WARN"));
        assert_eq!(warned, None);
    }
}

#[test]
fn a_bad_configuration_is_named_on_one_line_and_makes_no_directory() {
    let parent = ScratchDirectory::new("process");
    let place = text(&parent.path().join("data"));
    let cases: [(&[&str], &str); 8] = [
        (&["-X", "topics.partitions=4"], "topics.partitions_default"),
        (&["-X", "topics.partitions_default=0"], "topics.partitions_default = 0 (-X)"),
        (&["-X", "node.shutdown_grace_ms=soon"], "node.shutdown_grace_ms = soon (-X)"),
        (&["-X", "tls.cert=server.pem"], "tls.cert"),
        (&["-X", "auth.required=true"], "auth.required"),
        (&["-X", "cluster.voters=1@127.0.0.1:9644,1@127.0.0.1:9645"], "cluster.voters"),
        (&["-X", "listeners.kafka=0.0.0.0:0"], "listeners.kafka"),
        (&["--nodes", "6"], "--nodes"),
    ];
    for (wrong, named) in cases {
        let base = ["dev", "--kafka", "127.0.0.1:0", "--data-dir", &place];
        // The flag has precedence over -X, and this case is about -X.
        let base =
            if named == "listeners.kafka" { &["dev", "--data-dir", &place] } else { &base[..] };
        let ended = run_to_end(&[base, wrong].concat());
        assert_eq!(
            (ended.code, ended.lines.len(), ended.errors.len()),
            (Some(2), 0, 1),
            "{ended:?}"
        );
        assert!(ended.reason().contains(named), "{ended:?}");
        assert!(!Path::new(&place).exists(), "{wrong:?} left a directory");
    }
}

#[test]
fn a_second_process_on_a_data_directory_ends_with_3_and_names_the_first() {
    let broker = Broker::start_with(&[]);
    let place = text(broker.data());
    let ended = run_to_end(&["dev", "--kafka", "127.0.0.1:0", "--data-dir", &place]);
    assert_eq!((ended.code, ended.lines.len()), (Some(3), 0), "{ended:?}");
    let holder = broker.id().to_string();
    let named = ended.reason().split(|c: char| !c.is_ascii_digit()).any(|word| word == holder);
    assert!(named, "{holder}: {ended:?}");
    assert_answers(broker.bootstrap());
}

#[test]
fn a_taken_port_ends_with_3_and_makes_no_directory() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    let parent = ScratchDirectory::new("process");
    let place = parent.path().join("data");
    let ended = run_to_end(&["dev", "--kafka", &address, "--data-dir", &text(&place)]);
    assert_eq!((ended.code, ended.lines.len()), (Some(3), 0), "{ended:?}");
    assert!(ended.reason().contains(&address), "{ended:?}");
    assert!(!place.exists());
}

/// A stopped broker's directory with a topic in it.
fn used_directory() -> (Broker, String) {
    let mut broker = Broker::start_with(&[]);
    let topic = calls::new_topic(&mut Connection::open(broker.bootstrap()), "used");
    broker.terminate();
    (broker, topic)
}

#[test]
fn the_directory_of_another_node_is_refused_with_4_and_untouched() {
    let (broker, _) = used_directory();
    let place = text(broker.data());
    let own = ["dev", "--kafka", "127.0.0.1:0", "--data-dir", &place, "-X", "node.id=2"];
    let arguments = [&own[..], &["-X", "cluster.voters=2@127.0.0.1:9644"]].concat();
    assert_refused(broker.data(), "node 1", || run_to_end(&arguments));
}

#[test]
fn a_newer_format_is_refused_with_4_and_untouched() {
    let (mut broker, _) = used_directory();
    let identity = broker.data().join("IDENTITY");
    let old = fs::read(&identity).unwrap();
    // Magic, version, content, and a checksum over all of it: a version to come, sound otherwise.
    let mut newer = old.clone();
    newer[4] += 1;
    let body = newer.len() - 4;
    let checksum = crc32_ieee(&newer[..body]);
    newer[body..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&identity, &newer).unwrap();
    assert_refused(broker.data(), "IDENTITY", || broker.refused_restart());
    fs::write(&identity, &old).unwrap();
    broker.restart();
}

#[test]
fn an_identity_of_another_cluster_is_refused_with_4_and_no_log_is_touched() {
    let (mut broker, topic) = used_directory();
    let (foreign, _) = used_directory();
    let identity = broker.data().join("IDENTITY");
    let own = fs::read(&identity).unwrap();
    fs::copy(foreign.data().join("IDENTITY"), &identity).unwrap();
    // The meta log notes every start; the logs themselves are what must not be mixed.
    let logs = broker.data().join("partitions");
    assert_refused(&logs, "another cluster", || broker.refused_restart());
    fs::write(&identity, own).unwrap();
    broker.restart();
    let mut connection = Connection::open(broker.bootstrap());
    assert_eq!(calls::list_offset(&mut connection, &topic, calls::LATEST), (code::NONE, 0));
}

#[test]
fn a_directory_without_its_meta_log_is_refused_with_4_and_untouched() {
    let (broker, _) = used_directory();
    for copy in ["meta.a", "meta.b"] {
        let path = broker.data().join(copy);
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    assert_refused(broker.data(), "meta log", || broker.refused_restart());
}

#[test]
fn both_signals_drain_and_every_ack_is_kept() {
    for signal in [Program::terminate, Program::interrupt] {
        let mut broker = Broker::start_with(&["node.shutdown_grace_ms=20000"]);
        let mut connection = Connection::open(broker.bootstrap());
        let topic = calls::new_topic(&mut connection, "drained");
        let idle = Connection::open(broker.bootstrap());
        let batches: Vec<Vec<u8>> =
            (0..50).map(|n| Batch::of(&[format!("{n}").as_bytes()]).encode()).collect();
        let requests: Vec<Request> =
            batches.iter().map(|batch| calls::produce_request(&topic, 0, -1, batch)).collect();
        requests.iter().for_each(|request| connection.send_frame(&request.frame));
        signal(broker.program());
        // Every request that was taken is answered; then the connection closes.
        let mut answered = 0;
        while let Outcome::Answer(frame) = connection.receive(TIMEOUT) {
            assert!(!requests[answered].body_of_answer(&frame).is_empty());
            answered += 1;
        }
        let began = Instant::now();
        assert_eq!(broker.wait_for_exit().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(10), "the idle connection was waited for");
        drop(idle);
        broker.restart();
        assert_eq!(broker.recovery()["clean"], true);
        let kept = calls::fetch_all(&mut Connection::open(broker.bootstrap()), &topic, 0);
        assert!(kept.len() >= answered, "{} kept, {answered} acknowledged", kept.len());
        assert!(kept.iter().zip(&batches).all(|(kept, batch)| kept.is(batch)));
    }
}

#[test]
fn what_runs_longer_than_the_grace_is_cut() {
    let mut broker = Broker::start_with(&["node.shutdown_grace_ms=1000"]);
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "cut");
    connection.send_frame(&long_poll(&topic).frame);
    // Answered behind the long poll on another connection: the broker has taken both.
    assert_answers(broker.bootstrap());
    let began = Instant::now();
    broker.program().terminate();
    assert_eq!(broker.wait_for_exit().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?} for a grace of 1 s");
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut broker = Broker::start_with(&["node.shutdown_grace_ms=3600000"]);
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "hurry");
    // Half a request: the node has something to wait for, whatever it does with a long poll.
    connection.send_frame(&long_poll(&topic).frame);
    let half = api(API_VERSIONS).request_with(0, |_| {}).frame;
    connection.send(&i32::try_from(half.len()).unwrap().to_be_bytes());
    connection.send(&half[..4]);
    assert_answers(broker.bootstrap());
    broker.program().terminate();
    wait_for_stopping(broker.program());
    let began = Instant::now();
    broker.program().interrupt();
    assert_eq!(broker.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    broker.restart();
    assert_eq!(broker.recovery()["clean"], true, "the closing flush is made all the same");
}

#[test]
fn the_end_of_stdin_stops_a_node_that_was_told_so_and_no_other() {
    let data = ScratchDirectory::new("process");
    let base = ["--kafka", "127.0.0.1:0", "--data-dir", &text(data.path())];
    let mut told = dev(&[&base[..], &["--exit-on-stdin-close"]].concat());
    ready(&told);
    told.close_stdin();
    assert_eq!(told.wait_for_exit(TIMEOUT).code(), Some(0), "{}", told.tail());
    let mut other = dev(&base);
    other.close_stdin();
    let ready = ready(&other);
    assert_answers(ready["kafka"].as_str().unwrap());
    assert!(other.running());
}

#[test]
fn ephemeral_data_is_gone_with_its_node() {
    let mut program = dev(&["--kafka", "127.0.0.1:0", "--ephemeral"]);
    let ready = ready(&program);
    assert_eq!(ready["durability"], "ephemeral");
    let place = Path::new(ready["data_dir"].as_str().unwrap()).to_owned();
    assert!(place.join("IDENTITY").is_file(), "{}", place.display());
    let mut connection = Connection::open(ready["kafka"].as_str().unwrap());
    let topic = calls::new_topic(&mut connection, "ephemeral");
    let batch = Batch::of(&[b"for now"]).encode();
    let produced = calls::produce(&mut connection, &topic, 0, &batch);
    assert_eq!(produced, Produced { code: code::NONE, base_offset: 0 });
    program.terminate();
    assert_eq!(program.wait_for_exit(TIMEOUT).code(), Some(0), "{}", program.tail());
    assert!(!place.exists(), "{} stays behind", place.display());
}

#[test]
fn recovery_says_whether_the_last_stop_was_clean() {
    let mut broker = Broker::start_with(&[]);
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "clean");
    for clean in [true, false, true] {
        let batch = Batch::of(&[b"kept"]).encode();
        assert_eq!(calls::produce(&mut connection, &topic, 0, &batch).code, code::NONE);
        if clean {
            broker.terminate()
        } else {
            broker.kill()
        }
        broker.restart();
        let recovery = broker.recovery();
        assert_eq!(recovery["clean"], clean, "{recovery}");
        assert_eq!((&recovery["torn_frames"], recovery.get("corrupt")), (&0.into(), None));
        connection = Connection::open(broker.bootstrap());
    }
    assert_eq!(calls::list_offset(&mut connection, &topic, calls::LATEST), (code::NONE, 3));
}

#[test]
fn dev_without_flags_answers_on_both_loopback_addresses() {
    const NAME: &str = "dev_without_flags_answers_on_both_loopback_addresses";
    // Its data goes to the directory that it is started in, so it is started elsewhere.
    if Subject::of_this_run() == Subject::Kafka || !namespace::enter(NAME) {
        return;
    }
    let directory = ScratchDirectory::new("process");
    let mut command = Command::new(binary());
    command.arg("dev").current_dir(directory.path());
    let program = Program::start("bateau dev", command);
    let ready = ready(&program);
    assert_eq!(ready["kafka"], "127.0.0.1:9092");
    assert_eq!(ready["http"], "127.0.0.1:8080");
    assert_eq!(ready["data_dir"], text(&directory.path().join(".bateau")));
    assert_answers("127.0.0.1:9092");
    assert_is_ready("127.0.0.1:8080");
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(TcpStream::connect("[::1]:9092").is_ok(), "{}", program.tail());
        assert_answers("[::1]:9092");
        assert_is_ready("[::1]:8080");
    }
}

#[test]
fn log_dump_lists_the_frames_of_a_running_nodes_segment() {
    let broker = Broker::start_with(&[]);
    let mut connection = Connection::open(broker.bootstrap());
    let mut topic = String::new();
    let made = logs_made_by(broker.data(), || topic = calls::new_topic(&mut connection, "dumped"));
    let [log] = made.as_slice() else { panic!("one partition, one log: {made:?}") };
    for number in 0..3 {
        let values: Vec<Vec<u8>> = (0..=number).map(|n| vec![b'v'; n + 1]).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let batch = Batch::of(&values).encode();
        assert_eq!(calls::produce(&mut connection, &topic, 0, &batch).code, code::NONE);
    }
    let frames = all_frames(log);
    let records: Vec<(u64, u64)> = frames
        .iter()
        .filter(|frame| frame.kind == "records")
        .map(|frame| (frame.base_offset, frame.record_count))
        .collect();
    assert_eq!(records, [(0, 1), (1, 2), (3, 3)]);
    assert_eq!(frames[0].kind, "membership");
    assert!(frames.windows(2).all(|pair| pair[1].index == pair[0].index + 1));
    assert!(frames.windows(2).all(|pair| pair[1].position == pair[0].end()));
    assert!(!all_frames(&metadata_log(broker.data())).is_empty());
}

#[test]
fn log_dump_names_the_place_of_damage() {
    let (broker, _) = used_directory();
    let log = metadata_log(broker.data());
    let segment = log.join("0000000000000001.log");
    let second = all_frames(&log)[2].clone();
    write(&segment, second.position + 70, b"damaged");
    let ended = run_to_end(&["log", "dump", &text(&segment)]);
    assert_eq!((ended.code, ended.lines.len()), (Some(1), 2), "{ended:?}");
    assert!(ended.reason().contains(&format!("at byte {}", second.position)), "{ended:?}");
}
