//! What `#[bateau_testing::test]` prints when a test fails, seen from outside.

mod support;

use bateau_testing::{TestBroker, TestBrokerError};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Makes the tests below fail, in the way that it names.
const FAILURE: &str = "BATEAU_TESTING_FAILURE";

fn is_to_fail(how: &str) -> bool {
    std::env::var(FAILURE).is_ok_and(|wanted| wanted == how)
}

/// ApiVersions 0, correlation id 7, of the client "probe".
const API_VERSIONS: &[u8] = b"\0\0\0\x0f\0\x12\0\0\0\0\0\x07\0\x05probe";

/// Lets the broker see a request.
fn ask(broker: &TestBroker) {
    let mut stream = TcpStream::connect(broker.kafka_bootstrap()).expect("it listens");
    stream.write_all(API_VERSIONS).expect("it reads");
    stream.read_exact(&mut [0; 8]).expect("it answers");
}

#[bateau_testing::test]
async fn panics_if_told_to(broker: TestBroker) {
    ask(&broker);
    assert!(!is_to_fail("panic"), "as it was told");
}

#[bateau_testing::test]
async fn returns_an_error_if_told_to() -> Result<(), TestBrokerError> {
    let broker = TestBroker::start().await?;
    ask(&broker);
    drop(broker);
    if is_to_fail("error") {
        TestBroker::builder().config("no.such.key", "1").start().await?;
    }
    Ok(())
}

/// Runs a test of this file so that it fails; returns what it printed.
fn failed(test: &str, how: &str) -> String {
    let program = std::env::current_exe().expect("this is a program");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]);
    let output = command.env(FAILURE, how).env("BATEAU_SEED", "8f31").output();
    let output = output.expect("it runs");
    assert!(!output.status.success(), "it was to fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tells_once(printed: &str) {
    assert!(printed.contains("kafka ApiVersions client=probe"), "{printed}");
    assert_eq!(printed.matches("repeat with: BATEAU_SEED=8f31").count(), 1, "{printed}");
}

#[test]
fn a_panic_is_told_with_the_last_requests_and_the_seed() {
    tells_once(&failed("panics_if_told_to", "panic"));
}

#[test]
fn an_error_is_told_though_the_broker_is_gone_by_then() {
    let printed = failed("returns_an_error_if_told_to", "error");
    tells_once(&printed);
}
