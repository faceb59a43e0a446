//! Every row through every door, against its one expectation.
//!
//! `PARITY_WRITE=1 cargo test -p parity` writes what the Kafka door says into `rows.txt`, to be
//! looked at in the diff.

use bateau_testing::TestBroker;
use parity::door::{Door, Places};
use parity::kafka::KafkaDoor;
use parity::native::NativeDoor;
use parity::rows;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rows.txt");
const DIFFERENCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/differences.txt");

/// What a door says, by row.
type Said = BTreeMap<String, Vec<String>>;

/// Runs every row, each on a broker of its own.
async fn said<D: Door>() -> Said {
    let mut said = Said::new();
    for row in rows::ALL {
        let broker = TestBroker::start().await.expect("a broker starts");
        let kafka = broker.kafka_bootstrap();
        let native = broker.native_url().expect("the native door is open");
        let lines = rows::run::<D>(row, &Places { kafka, native }).await;
        assert!(!lines.is_empty(), "{row} says nothing");
        said.insert((*row).to_owned(), lines);
    }
    said
}

/// Rows as the file has them: `# row`, then its lines.
fn expected() -> Said {
    let mut expected = Said::new();
    let mut row = String::new();
    for line in fs::read_to_string(ROWS).expect("rows.txt is there").lines() {
        match line.strip_prefix("# ") {
            Some(name) => name.clone_into(&mut row),
            None if line.is_empty() => {}
            None => expected.entry(row.clone()).or_default().push(line.to_owned()),
        }
    }
    expected
}

fn write(said: &Said) {
    let mut text = String::new();
    for row in rows::ALL {
        let lines = said[*row].join("\n");
        let _ = writeln!(text, "# {row}\n{lines}\n");
    }
    fs::write(ROWS, text.trim_end().to_owned() + "\n").expect("rows.txt can be written");
}

/// What a door says instead: `door | row | line of rows.txt | what it says | reason`.
struct Difference {
    place: [String; 3],
    instead: String,
}

fn differences(door: &str) -> Vec<Difference> {
    let text = fs::read_to_string(DIFFERENCES).expect("differences.txt is there");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let parts: Vec<_> = line.split(" | ").map(str::to_owned).collect();
        let [door, row, expected, instead, reason] =
            <[String; 5]>::try_from(parts).unwrap_or_else(|_| panic!("five parts: {line}"));
        assert!(!reason.is_empty(), "a difference needs a reason: {line}");
        Difference { place: [door, row, expected], instead }
    });
    parsed.filter(|difference| difference.place[0] == door).collect()
}

/// Puts the named differences into the expectation; one that fits nowhere is out of date.
fn expected_of(door: &str) -> Said {
    let mut expected = expected();
    for Difference { place: [_, row, line], instead } in differences(door) {
        let lines = expected.get_mut(&row).unwrap_or_else(|| panic!("no row is called {row}"));
        let found = lines.iter_mut().find(|found| **found == line);
        *found.unwrap_or_else(|| panic!("{row} has no line: {line}")) = instead;
    }
    expected
}

fn compare(door: &str, said: &Said) {
    for (row, lines) in expected_of(door) {
        assert_eq!(said.get(&row), Some(&lines), "row {row} through the {door} door");
    }
    assert_eq!(said.len(), rows::ALL.len());
}

#[tokio::test]
async fn the_kafka_door_says_what_the_rows_expect() {
    let said = said::<KafkaDoor>().await;
    if std::env::var_os("PARITY_WRITE").is_some() {
        write(&said);
    }
    compare(KafkaDoor::NAME, &said);
}

#[tokio::test]
async fn the_native_door_says_what_the_rows_expect() {
    compare(NativeDoor::NAME, &said::<NativeDoor>().await);
}

#[test]
fn every_row_has_an_expectation_and_every_expectation_a_row() {
    let mut rows: Vec<_> = rows::ALL.iter().map(|row| (*row).to_owned()).collect();
    rows.sort();
    assert_eq!(expected().into_keys().collect::<Vec<_>>(), rows);
}
