//! A broker that demands certificates of its clients, and commands that show one.

use crate::node::{Ended, Node};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

fn key() -> KeyPair {
    KeyPair::generate().expect("random numbers are there")
}

fn write(place: &Path, name: &str, text: &str, mode: u32) {
    let path = place.join(name);
    fs::write(&path, text).expect("the file is written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
}

/// An authority, and a node and two clients with certificates of it.
fn files() -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).expect("it can sign");
    write(place.path(), "ca.crt", &authority.pem(), 0o644);
    for name in ["node", "me", "other"] {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("the names are names");
        let key = key();
        let certificate = params.signed_by(&key, &authority).expect("it is signed");
        write(place.path(), &format!("{name}.crt"), &certificate.pem(), 0o644);
        write(place.path(), &format!("{name}.key"), &key.serialize_pem(), 0o600);
    }
    write(place.path(), "open.key", "", 0o644);
    place
}

fn strict_node(place: &Path) -> Node {
    let setting = |key: &str, file: &str| format!("tls.{key}={}", place.join(file).display());
    let settings =
        [setting("cert", "node.crt"), setting("key", "node.key"), setting("client_ca", "ca.crt")];
    Node::start_with(&settings.each_ref().map(String::as_str))
}

#[test]
fn flags_and_contexts_name_what_a_command_shows_and_whom_it_trusts() {
    let place = files();
    let node = strict_node(place.path());
    let file = |name: &str| place.path().join(name).display().to_string();
    let call = |files: [&str; 3]| -> Ended {
        let [ca, certificate, key] = files.map(file);
        let broker = ["status", "--broker", &node.native, "--ca", &ca];
        node.run(&[&broker[..], &["--client-cert", &certificate, "--client-key", &key]].concat())
    };
    assert_eq!(call(["ca.crt", "me.crt", "me.key"]).objects().len(), 1);
    for (files, code, error, cause) in [
        (["ca.crt", "me.crt", "other.key"], 2, "E0203", "the key is not the one of the first"),
        (["ca.crt", "none.crt", "me.key"], 2, "E0203", "none.crt: cannot be read: No such file"),
        (["ca.crt", "me.crt", "open.key"], 2, "E0203", "mode 644 opens the key to others"),
        (["ca.crt", "me.crt", "me.crt"], 2, "E0203", "mode 644 opens the key to others"),
        (["none.crt", "me.crt", "me.key"], 2, "E0205", "No such file"),
        (["me.key", "me.crt", "me.key"], 2, "E0205", "no certificate of an authority"),
        (["other.crt", "me.crt", "me.key"], 4, "E0201", "the server is not the one that"),
    ] {
        let ended = call(files);
        ended.refused(code, &format!("error[{error}]: "));
        assert!(ended.stderr.contains(cause), "{files:?}: {}", ended.stderr);
    }
    // The node's own entry has its pin, and names no certificate to show.
    let none = node.run(&["status"]);
    none.refused(4, "error[E0204]: ");
    assert!(none.stderr.contains("demands a certificate of its clients"), "{}", none.stderr);
    node.run(&["status", "--client-cert", &file("me.crt")]).refused(2, "error: ");
}

#[test]
fn a_context_is_set_used_left_and_deleted() {
    let place = files();
    let node = strict_node(place.path());
    for name in ["ca.crt", "me.crt", "me.key"] {
        fs::copy(place.path().join(name), node.work().join(name)).expect("it is copied");
    }
    let in_file = |arguments: &[&str]| {
        let mut command = node.command(arguments);
        command.env_remove("BATEAU_CONTEXT");
        crate::node::ended(command, b"")
    };
    let set = ["ctx", "set", "prod", "--native", &node.native, "--ca", "ca.crt"];
    let mine = ["--client-cert", "me.crt", "--client-key", "me.key"];
    let dry = in_file(&[&set[..], &mine, &["--dry-run"]].concat());
    assert_eq!(dry.column("name"), ["prod"]);
    in_file(&["ctx", "use", "prod"]).refused(3, "error[E0301]: prod: no such context\n");
    in_file(&[&set[..], &mine].concat()).text();
    in_file(&["ctx", "use", node.context()]).text();
    in_file(&["ctx", "use", "prod"]).text();
    assert_eq!(in_file(&["status"]).objects().len(), 1, "it shows the certificate");
    assert_eq!(in_file(&["ctx", "-"]).column("current"), [node.context()]);
    in_file(&["status"]).refused(4, "error[E0204]: ");
    assert_eq!(in_file(&["ctx", "-"]).column("current"), ["prod"]);
    // What is not named stays; what is empty goes.
    in_file(&["ctx", "set", "prod", "--kafka", "b:9092", "--client-cert", "", "--client-key", ""])
        .text();
    let prod = in_file(&["ctx", "list"]).objects().into_iter().find(|one| one["name"] == "prod");
    let prod = prod.expect("it is listed");
    assert_eq!((&prod["native"], &prod["kafka"]), (&node.native.as_str().into(), &"b:9092".into()));
    assert!(
        prod["certificate"].is_null() && prod["ca"].as_str().is_some_and(|ca| ca.starts_with('/'))
    );
    in_file(&["ctx", "set", "prod", "--client-cert", "me.crt"]).refused(2, "error: ");
    in_file(&["ctx", "set", "no/name", "--native", "b:1"]).refused(2, "error: ");
    in_file(&["ctx", "set", "prod", "--pin", "md5:00"]).refused(2, "error: --pin: ");
    in_file(&["ctx", "delete", "prod"]).refused(2, "error: delete prod: ");
    in_file(&["ctx", "delete", "prod", "--dry-run"]).text();
    in_file(&["ctx", "delete", "prod", "--yes"]).text();
    in_file(&["ctx", "delete", "prod", "--yes"])
        .refused(3, "error[E0301]: prod: no such context\n");
    in_file(&["ctx", "-"]).text();
    in_file(&["ctx", "-"]).refused(3, "error[E0301]: -: no such context\n");
}
