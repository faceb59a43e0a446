//! `bateau serve` with `[tls]`: real clients, new certificates while they run, and refused starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kafka_clients_tests::broker::{binary, run_to_end};
use kafka_clients_tests::program::Program;
use kafka_clients_tests::runtimes;
use kafka_clients_tests::scratch::ScratchDirectory;
use kafka_clients_tests::tls::{Authority, Encrypted, Files};
use rustls::ProtocolVersion;

const SOON: Duration = Duration::from_secs(60);

/// A changed certificate is served after at most this long.
const RELOAD: Duration = Duration::from_secs(10);

/// How often a new connection looks at the certificate.
const LOOK: Duration = Duration::from_millis(20);

/// Writes a configuration whose doors have free ports.
fn configuration(place: &Path, files: &Files) -> String {
    let path = place.join("node.toml");
    let text = format!(
        "[node]\ndata_dir = {:?}\n[listeners]\nkafka = \"127.0.0.1:0\"\n\
         native = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[tls]\ncert = {:?}\nkey = {:?}\n",
        place.join("data"),
        files.certificate,
        files.key,
    );
    fs::write(&path, text).expect("the directory is ours");
    path.to_string_lossy().into_owned()
}

/// A broker behind TLS.
struct Node {
    program: Program,
    address: String,
    authority: Authority,
    place: ScratchDirectory,
}

impl Node {
    fn start() -> Self {
        let place = ScratchDirectory::new("tls");
        let authority = Authority::new("the broker's");
        authority.write(&place.path().join("ca.crt"));
        let files = authority.certificate().write(place.path());
        let config = configuration(place.path(), &files);
        let mut command = Command::new(binary());
        command.args(["serve", "--config", &config]).env_remove("RUST_LOG");
        command.env("BATEAU_CONFIG_DIR", place.path().join("config"));
        let program = Program::start("broker", command);
        let first = program.wait_for("ready line", SOON, |lines| lines.first().cloned());
        let ready = first.json.unwrap_or_else(|| panic!("{}{}", first.text, program.tail()));
        let address = ready["kafka"].as_str().expect("the Kafka door is open").to_owned();
        Self { program, address, authority, place }
    }

    fn connect(&self) -> Encrypted {
        Encrypted::connect(&self.address, &self.authority, 13).expect("the certificate is right")
    }

    fn stop(mut self) {
        self.program.terminate();
        let status = self.program.wait_for_exit(SOON);
        assert_eq!(status.code(), Some(0), "{}", self.program.tail());
    }
}

/// The kafkajs service; `None` without Node.js.
fn service(test: &str, address: &str, authority: &Path) -> Option<Program> {
    let Some(installed) = runtimes::node() else {
        runtimes::skip(test, "Node.js and npm are missing");
        return None;
    };
    let mut command = installed.command();
    command.args(["encrypted-service.js", address]).arg(authority);
    Some(Program::start("encrypted service", command))
}

#[test]
fn kafkajs_publishes_and_reads_over_tls_while_the_certificate_changes() {
    let node = Node::start();
    let authority = node.place.path().join("ca.crt");
    let Some(mut service) = service("kafkajs over TLS", &node.address, &authority) else { return };
    service.wait_for_events("received", 50, SOON);
    let new = node.authority.certificate();
    new.write(node.place.path());
    wait_until_served(&node, &new.der);
    let before = service.lines().len();
    service.wait_for_events("received", before + 50, SOON);
    service.terminate();
    service.wait_for_events("stopped", 1, SOON);
    assert_eq!(service.wait_for_exit(SOON).code(), Some(0), "{}", service.tail());
    let count = |event| service.lines().iter().filter(|line| line.event() == Some(event)).count();
    assert_eq!(count("acked"), count("received"), "each once{}", service.tail());
    node.stop();
}

#[test]
fn kafkajs_that_trusts_another_authority_sends_nothing() {
    let node = Node::start();
    let other = node.place.path().join("other.crt");
    Authority::new("another").write(&other);
    let Some(mut service) = service("kafkajs, another CA", &node.address, &other) else { return };
    service.wait_for_events("refused", 1, SOON);
    assert_eq!(service.wait_for_exit(SOON).code(), Some(1), "{}", service.tail());
    let error = service.lines()[0].text.clone();
    assert!(error.contains("certificate"), "{error}");
    node.connect().ask();
    node.stop();
}

#[test]
fn both_versions_of_tls_are_answered() {
    let node = Node::start();
    for (version, agreed) in [(12, ProtocolVersion::TLSv1_2), (13, ProtocolVersion::TLSv1_3)] {
        let client = Encrypted::connect(&node.address, &node.authority, version);
        let mut client = client.expect("the certificate is right");
        assert_eq!(client.version(), Some(agreed));
        client.ask();
    }
    node.stop();
}

/// Connects until the broker shows this certificate.
fn wait_until_served(node: &Node, certificate: &[u8]) {
    let begun = Instant::now();
    while node.connect().certificate() != certificate {
        assert!(begun.elapsed() < RELOAD, "still the old certificate{}", node.program.tail());
        thread::sleep(LOOK);
    }
}

#[test]
fn a_new_certificate_is_served_to_new_connections_and_old_ones_go_on() {
    let node = Node::start();
    let mut old = node.connect();
    old.ask();
    let shown = old.certificate();
    let new = node.authority.certificate();
    new.write(node.place.path());
    wait_until_served(&node, &new.der);
    old.ask();
    assert_eq!(old.certificate(), shown);
    node.stop();
}

#[test]
fn a_broken_certificate_changes_nothing_and_is_told() {
    let node = Node::start();
    let shown = node.connect().certificate();
    let key = node.place.path().join("node.key");
    fs::write(&key, "no key").expect("the file is ours");
    let told = format!(
        "the certificate in use stays: tls.key: {}: has no private key (PKCS #8, PKCS #1 or \
         SEC 1) in PEM",
        key.display()
    );
    node.program.wait_for_error("complaint", RELOAD, |lines| {
        lines.iter().any(|line| line.contains(&told) && line.contains("ERROR")).then_some(())
    });
    let mut client = node.connect();
    assert_eq!(client.certificate(), shown);
    client.ask();
    node.stop();
}

/// `bateau dev` on this data directory, and the address of its native door.
fn dev(place: &Path, native: &str) -> (Program, String) {
    let mut command = Command::new(binary());
    command.args(["dev", "--kafka", "127.0.0.1:0", "--http", "off", "--native", native]);
    command.arg("--data-dir").arg(place.join("data")).env_remove("RUST_LOG");
    command.env("BATEAU_CONFIG_DIR", place.join("config"));
    let program = Program::start("bateau dev", command);
    let first = program.wait_for("ready line", SOON, |lines| lines.first().cloned());
    let ready = first.json.unwrap_or_else(|| panic!("{}{}", first.text, program.tail()));
    let native = ready["native"].as_str().expect("the native door is open").to_owned();
    (program, native)
}

/// The pin that the file of contexts has for this address.
fn pin(place: &Path, native: &str) -> Option<String> {
    let text = fs::read_to_string(place.join("config/contexts.toml")).expect("it was written");
    let entry = text.split("\n[contexts.").find(|entry| entry.contains(native))?;
    let (_, rest) = entry.split_once("pin = \"").expect("an entry has a pin");
    Some(rest.split('"').next().expect("it ends").to_owned())
}

#[test]
fn a_node_for_development_tells_its_user_the_pin_of_the_key_that_it_keeps() {
    let place = ScratchDirectory::new("tls");
    let stop = |mut program: Program| {
        program.terminate();
        assert_eq!(program.wait_for_exit(SOON).code(), Some(0), "{}", program.tail());
    };
    let (program, native) = dev(place.path(), "127.0.0.1:0");
    let first = pin(place.path(), &native).expect("the entry is there before the ready line");
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    stop(program);
    assert_eq!(pin(place.path(), &native), None, "a port of chance is forgotten");
    let (program, again) = dev(place.path(), &native);
    assert_eq!((again, pin(place.path(), &native)), (native.clone(), Some(first.clone())));
    stop(program);
    assert_eq!(pin(place.path(), &native), Some(first), "a chosen port is kept");
    for secret in ["config/contexts.toml", "data/native-identity.pem"] {
        let mode = fs::metadata(place.path().join(secret)).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{secret}");
    }
}

#[test]
fn a_start_with_wrong_files_is_refused_with_one_line() {
    let place = ScratchDirectory::new("tls");
    let authority = Authority::new("the broker's");
    let refused = |files: &Files, expected: &str| {
        let config = configuration(place.path(), files);
        for command in [["serve", "--config", &config], ["config", "check", &config]] {
            let ended = run_to_end(&command);
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let place = format!("{}/", place.path().display());
            assert_eq!(ended.reason().replace(&place, ""), expected);
        }
    };
    let files = authority.until(2_020).write(place.path());
    refused(
        &files,
        "tls.cert: node.crt: certificate 1 expired on 2020-01-01T00:00:00Z; give a certificate \
         that is valid now",
    );
    let files = authority.certificate().write(place.path());
    fs::set_permissions(&files.key, Permissions::from_mode(0o604)).expect("the file is ours");
    refused(&files, "tls.key: node.key: mode 604 opens it to others; run `chmod 600 node.key`");
    fs::remove_file(&files.key).expect("the file is ours");
    refused(&files, "tls.key: node.key: cannot be read: No such file or directory (os error 2)");
    let other = authority.certificate();
    let files = authority.certificate().write(place.path());
    fs::write(&files.key, other.key).expect("the file is ours");
    refused(&files, "tls.key: node.key: is not the key of the first certificate in node.crt");
    assert!(!place.path().join("data").exists(), "nothing was begun");
}
