//! `produce` and `consume`: what goes in comes out, by every way in and every way out.

use crate::node::Node;
use serde_json::{Value, json};

/// A topic with one partition and the values "r0" to "r9", a second apart from 1970 on.
fn ten_records(node: &Node) {
    node.run(&["topic", "create", "ten", "-p", "1"]).text();
    let line = |number: u64| {
        format!("{}\n", json!({ "value": format!("r{number}"), "timestamp": number * 1_000 }))
    };
    let lines: String = (0..10).map(line).collect();
    node.feed(&["produce", "ten", "--jsonl", "--quiet"], lines).text();
}

#[test]
fn arguments_become_records_and_each_is_acknowledged() {
    let node = Node::start();
    let acks = node.run(&["produce", "orders", "-k", "7", "-H", "source=shop", "paid", "shipped"]);
    let expected = |offset: u64| {
        json!({
            "topic": "orders", "partition": 0, "offset": offset, "durability": "flushed",
            "replicas": 1, "duplicate": false,
        })
    };
    assert_eq!(acks.objects(), [expected(0), expected(1)]);
    let records = node.run(&["consume", "orders", "--from", ":end"]).objects();
    let headers = json!([{ "name": "source", "value": "shop" }]);
    let shown = |record: &Value| {
        let time = record["timestamp"].as_u64().expect("a record has a time");
        assert!(time > 1_700_000_000_000, "{record}");
        (record["key"].clone(), record["value"].clone(), record["headers"].clone())
    };
    let shown: Vec<_> = records.iter().map(shown).collect();
    let expected = |value: &str| (json!("7"), json!(value), headers.clone());
    assert_eq!(shown, [expected("paid"), expected("shipped")]);
}

#[test]
fn lines_of_stdin_and_of_a_file_become_records() {
    let node = Node::start();
    node.feed(&["produce", "lines"], "one\ntwo\r\n\nfour").text();
    let values = node.run(&["consume", "lines", "--from", ":end"]).column("value");
    assert_eq!(values, ["one", "two", "", "four"]);

    std::fs::write(node.work().join("pairs"), "7=paid\n8=open=yes\n").expect("it can be written");
    let pairs = ["produce", "pairs", "--file", "pairs", "--key-separator", "="];
    assert_eq!(node.run(&pairs).objects().len(), 2);
    let format = ["consume", "pairs", "--from", ":end", "-f", "%k|%v\\n"];
    assert_eq!(node.run(&format).text(), "7|paid\n8|open=yes\n");
}

#[test]
fn what_consume_writes_produce_reads_also_bytes_nulls_and_headers() {
    let node = Node::start();
    let lines = concat!(
        r#"{"key":"7","value":"paid","timestamp":1000,"#,
        r#""headers":[{"name":"a","value":"1"},{"name":"a","value":null}]}"#,
        "\n",
        r#"{"key_base64":"/wA=","value_base64":"AP/+","timestamp":2000}"#,
        "\n",
        r#"{"key":"gone","value":null,"timestamp":3000}"#,
        "\n",
        r#"{"value":{"id": 7, "a": [1.0]},"timestamp":4000}"#,
        "\n",
    );
    node.feed(&["produce", "from", "--jsonl"], lines).text();
    let first = node.run(&["consume", "from", "--from", ":end"]);
    let records = first.objects();
    assert_eq!(records[1]["key_base64"], "/wA=");
    assert_eq!(records[2]["value"], Value::Null);
    assert_eq!(records[3]["value"], r#"{"id": 7, "a": [1.0]}"#);
    node.feed(&["produce", "to", "--jsonl"], first.text()).text();
    let second = node.run(&["consume", "to", "--from", ":end"]);
    assert_eq!(second.text(), first.text().replace("\"topic\":\"from\"", "\"topic\":\"to\""));
}

#[test]
fn every_shape_of_the_offset_grammar_reads_what_it_says() {
    let node = Node::start();
    ten_records(&node);
    let table: [(&[&str], &str); 14] = [
        (&["--from", ":end"], "0123456789"),
        (&["--from", "start", "--exit-at-end"], "0123456789"),
        (&["--from", "end", "--exit-at-end"], ""),
        (&["--from", "+7", "--exit-at-end"], "789"),
        (&["--from", "-2", "--exit-at-end"], "89"),
        (&["--from", "8", "--exit-at-end"], "89"),
        (&["--from", "3:6"], "345"),
        (&["--from", "8:99"], "89"),
        (&["--from", "-5:-3"], "56"),
        (&["--from", "@3000", "--exit-at-end"], "3456789"),
        (&["--from", "@2500:4500"], "34"),
        (&["--from", "@1970-01-01T00:00:08Z:end"], "89"),
        (&["--from", "@yesterday:@now"], ""),
        (&["-n", "3"], "012"),
    ];
    for (from, expected) in table {
        let arguments = [&["consume", "ten", "-f", "%v"], from].concat();
        let found = node.run(&arguments).text().replace('r', "");
        assert_eq!(found, expected, "{from:?}");
    }
}

#[test]
fn a_format_shows_every_part_of_a_record() {
    let node = Node::start();
    let line = r#"{"key":"7","value":"paid","headers":{"a":"1"},"timestamp":1000}"#;
    node.feed(&["produce", "orders", "--jsonl"], format!("{line}\n")).text();
    let format = "%t[%p]@%o %k=%v{hex} %h %d{strftime[%F %T]} %T %K %S %a{compression} %e\\n";
    let found = node.run(&["consume", "orders", "--from", ":end", "-f", format]);
    let expected = "orders[0]@0 7=70616964 a=1 1970-01-01 00:00:01 1000 1 4 none ";
    assert!(found.text().starts_with(expected), "{found:?}");
}

#[test]
fn a_partition_can_be_written_to_and_read_alone() {
    let node = Node::start();
    node.run(&["topic", "create", "wide", "-p", "3"]).text();
    for partition in ["0", "1", "2"] {
        node.run(&["produce", "wide", "-p", partition, partition]).text();
    }
    let read = ["consume", "wide", "-p", "2", "-p", "0", "--from", ":end", "-f", "%v\\n"];
    let mut found: Vec<String> = node.run(&read).text().lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, ["0", "2"]);
}

#[test]
fn consume_goes_on_until_it_is_interrupted() {
    let node = Node::start();
    node.run(&["produce", "orders", "early"]).text();
    let mut reading = node.begin(&["consume", "orders", "-f", "%v\\n"]);
    assert_eq!(reading.line(), "early\n");
    node.run(&["produce", "orders", "late"]).text();
    assert_eq!(reading.line(), "late\n");
    reading.interrupt();
    let ended = reading.end();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_reader_of_stdout_that_goes_away_ends_consume_quietly() {
    let node = Node::start();
    node.run(&["produce", "orders", "first"]).text();
    let mut reading = node.begin(&["consume", "orders", "-f", "%v\\n"]);
    assert_eq!(reading.line(), "first\n");
    // No further record comes: nothing has to be written for it to be noticed.
    reading.close_stdout();
    let ended = reading.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_line_that_is_typed_is_acknowledged_before_the_next_one() {
    let node = Node::start();
    let mut typing = node.begin(&["produce", "orders"]);
    for offset in 0..3 {
        typing.type_line("typed");
        let ack: Value = serde_json::from_str(&typing.line()).expect("an ack is JSON");
        assert_eq!(ack["offset"], offset);
    }
    typing.interrupt();
    assert_eq!(typing.end().code, Some(0));
}

#[test]
fn records_are_written_although_nobody_reads_their_acknowledgements() {
    let node = Node::start();
    let mut producing = node.begin(&["produce", "orders"]);
    producing.type_line("one");
    assert!(!producing.line().is_empty());
    producing.close_stdout();
    producing.type_line("two");
    producing.type_line("three");
    let ended = producing.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let values = node.run(&["consume", "orders", "--from", ":end"]).column("value");
    assert_eq!(values, ["one", "two", "three"]);
}

#[test]
fn many_records_keep_their_order_and_are_all_acknowledged() {
    let node = Node::start();
    node.run(&["topic", "create", "many", "-p", "1"]).text();
    let lines: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    let acks = node.feed(&["produce", "many"], &lines).column("offset");
    assert_eq!(acks.len(), 50_000);
    assert!(acks.iter().enumerate().all(|(place, offset)| *offset == place.to_string()));
    let read = node.run(&["consume", "many", "--from", ":end", "-f", "%v\\n"]);
    assert!(read.text() == lines, "the values come back in their order");
}

#[test]
fn a_bad_line_stops_produce_behind_what_came_before_it() {
    let node = Node::start();
    let lines = "{\"value\":\"good\"}\n{\"vlaue\":\"bad\"}\n{\"value\":\"late\"}\n";
    let ended = node.feed(&["produce", "orders", "--jsonl"], lines);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("error[E1009]: stdin:2: a line of the input is no record"));
    assert!(ended.stderr.contains("1 records were written to orders"), "{ended:?}");
    let values = node.run(&["consume", "orders", "--from", ":end"]).column("value");
    assert_eq!(values, ["good"]);
}

#[test]
fn dry_run_reads_everything_and_sends_nothing() {
    let node = Node::start();
    node.run(&["topic", "create", "orders"]).text();
    let ended = node.feed(&["produce", "orders", "--dry-run"], "one\ntwo\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert_eq!(ended.stderr, "2 records would be written to orders\n");
    assert_eq!(node.run(&["consume", "orders", "--from", ":end"]).text(), "");
}
