//! Three real processes whose links and doors are all encrypted: a node that is no node of theirs
//! stays outside, kills and new certificates cost nothing.

use bateau_client::{Client, ClientBuilder};
use cluster_tests::{NODES, RUST_LOAD, TIMEOUT, Trio};
use kafka_clients_tests::following::Progress;
use kafka_clients_tests::scratch::ScratchDirectory;
use kafka_clients_tests::tls::Authority;
use kafka_clients_tests::{namespace, runtimes};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where certificates are: `authority.crt`, and a directory per node.
struct Certificates {
    place: ScratchDirectory,
    ours: Authority,
}

impl Certificates {
    fn new() -> Self {
        let certificates =
            Self { place: ScratchDirectory::new("certificates"), ours: Authority::new("ours") };
        certificates.ours.write(&certificates.place.path().join("authority.crt"));
        NODES.into_iter().for_each(|id| certificates.renew(id));
        certificates
    }

    /// Gives a node a certificate and a key that it did not have before.
    fn renew(&self, id: usize) {
        self.give(id, &self.ours);
    }

    /// Gives a node a certificate of this authority.
    fn give(&self, id: usize, authority: &Authority) {
        let directory = self.place.path().join(format!("node{id}"));
        fs::create_dir_all(&directory).expect("the directory is ours");
        authority.write(&directory.join("authority.crt"));
        authority.node(id).write(&directory);
    }

    /// The `[tls]` section of a node.
    fn section(&self, id: usize) -> String {
        let file = |name: &str| {
            let path = self.place.path().join(format!("node{id}")).join(name);
            format!("\"{}\"", path.display())
        };
        let (cert, key, authority) = (file("node.crt"), file("node.key"), file("authority.crt"));
        format!("[tls]\ncert = {cert}\nkey = {key}\nclient_ca = {authority}\n")
    }

    /// A client that shows a certificate of ours.
    fn client(&self, id: usize) -> ClientBuilder {
        let read = |path: &Path| fs::read(path).expect("it was written");
        let own = self.ours.certificate();
        Client::builder()
            .address(Trio::native(id))
            .authorities_pem(read(&self.place.path().join("authority.crt")))
            .identity_pem(own.certificate, own.key)
    }
}

/// Three files with `[tls]`; nothing runs yet.
fn encrypted(certificates: &Certificates) -> Trio {
    let trio = Trio::new();
    for id in NODES {
        let text = trio.configuration_with_native(id);
        fs::write(trio.file(id), text + &certificates.section(id)).expect("it is written");
    }
    trio
}

/// Waits until a node has logged this.
fn says(trio: &Trio, id: usize, words: &[&str]) {
    trio.program(id).wait_for_error(&format!("{words:?}"), TIMEOUT, |lines| {
        let mut lines = lines.iter();
        lines.find(|line| words.iter().all(|word| line.contains(word))).map(drop)
    });
}

#[test]
fn a_node_of_another_authority_stays_outside_until_it_has_a_certificate_of_ours() {
    let name = "a_node_of_another_authority_stays_outside_until_it_has_a_certificate_of_ours";
    if !namespace::enter(name) {
        return;
    }
    let certificates = Certificates::new();
    certificates.give(3, &Authority::new("theirs"));
    let mut trio = encrypted(&certificates);
    NODES.into_iter().for_each(|id| trio.launch(id));
    for id in [1, 3] {
        says(&trio, id, &["no link to a peer", "UnknownIssuer"]);
        says(&trio, id, &["a peer's link is refused", "UnknownCA"]);
    }
    // Files are looked at every few seconds; nobody is started again.
    certificates.renew(3);
    NODES.into_iter().for_each(|id| trio.until_ready(id));
}

#[test]
fn a_node_whose_certificate_names_another_node_does_not_start() {
    if !namespace::enter("a_node_whose_certificate_names_another_node_does_not_start") {
        return;
    }
    let certificates = Certificates::new();
    let mut trio = encrypted(&certificates);
    let text = fs::read_to_string(trio.file(2)).expect("it was written");
    let text = text.replace(&certificates.section(2), &certificates.section(3));
    fs::write(trio.file(2), text).expect("it is written");
    trio.launch(2);
    let (status, said) = trio.ended(2);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("has no alternative name DNS:node-2.bateau.internal"), "{said}");
}

/// The commands of docs/security.md.
fn documented() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(commands, _)| commands).collect()
}

#[test]
fn the_commands_of_the_page_make_the_certificates_of_a_cluster() {
    let has_openssl = Command::new("openssl").arg("version").output().is_ok();
    if !has_openssl {
        return runtimes::skip("the commands of the page", "there is no openssl");
    }
    if !namespace::enter("the_commands_of_the_page_make_the_certificates_of_a_cluster") {
        return;
    }
    let place = ScratchDirectory::new("documented");
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &documented()]).current_dir(place.path());
    let made = shell.output().expect("there is a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut trio = Trio::new();
    let file = |name: &str| place.path().join(name).display().to_string();
    for id in NODES {
        let (cert, key) = (file(&format!("node{id}.crt")), file(&format!("node{id}.key")));
        let authority = file("ca.crt");
        let tls = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {authority:?}\n");
        fs::write(trio.file(id), trio.configuration(id, &NODES) + &tls).expect("it is written");
    }
    trio.launch_all();
}

/// Each node is killed, comes back, and gets a new certificate, under load.
fn kill_and_renew_each(mut trio: Trio, certificates: &Certificates, progress: &Progress) -> Trio {
    for id in NODES {
        trio.kill(id);
        progress.goes_on(&format!("without node {id}"));
        trio.launch(id);
        trio.until_ready(id);
        certificates.renew(id);
        says(&trio, id, &["the certificate was reloaded"]);
        progress.goes_on(&format!("with a new certificate of node {id}"));
    }
    trio
}

#[test]
fn kills_and_new_certificates_cost_an_encrypted_cluster_nothing() {
    if !namespace::enter("kills_and_new_certificates_cost_an_encrypted_cluster_nothing") {
        return;
    }
    let certificates = Certificates::new();
    let mut trio = encrypted(&certificates);
    trio.launch_all();
    let client = certificates.client(1).address(Trio::native(2));
    let disturb = move |progress: &Progress| kill_and_renew_each(trio, &certificates, progress);
    let (_trio, count) = RUST_LOAD.run(move || client.clone(), disturb);
    println!("{count} records, {} kills", NODES.len());
}
