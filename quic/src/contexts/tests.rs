//! Tests of the file of contexts.

use super::*;
use std::net::Ipv6Addr;

fn pin(byte: u8) -> SpkiPin {
    SpkiPin::of_public_key(&[byte])
}

fn context(name: &str, native: &str, byte: u8) -> Context {
    let mut context = Context::new(name).expect("a legal name");
    context.native = Some(native.to_owned());
    context.pin = Some(pin(byte));
    context
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(directory: &Path, text: &str, mode: u32) {
    let path = directory.join(FILE);
    fs::write(&path, text).expect("the file is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode is set");
}

#[test]
fn what_is_put_is_read_again_and_only_its_owner_may_read_it() {
    let place = temporary();
    let directory = place.path().join("config/bateau");
    assert_eq!(Contexts::load(&directory).expect("nothing there"), Contexts::default());
    let mut dev = context("dev", "127.0.0.1:9443", 1);
    dev.http = Some("127.0.0.1:8080".to_owned());
    Contexts::update(&directory, |contexts| {
        contexts.put(dev.clone());
        contexts.set_current("dev");
    })
    .expect("the file is written");
    let contexts = Contexts::load(&directory).expect("it is there");
    assert_eq!(contexts.current(), Some(&dev));
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&directory.join(FILE)), 0o600);
    assert_eq!(mode(&directory), 0o700);
    let text = fs::read_to_string(directory.join(FILE)).expect("it is text");
    assert_eq!(
        text,
        format!(
            "# Known brokers. `bateau dev` writes its own entry here.\ncurrent = \"dev\"\n\n\
             [contexts.dev]\nnative = \"127.0.0.1:9443\"\nhttp = \"127.0.0.1:8080\"\n\
             pin = \"{}\"\n",
            pin(1)
        )
    );
}

#[test]
fn what_a_person_or_a_later_version_wrote_stays() {
    let place = temporary();
    let text = concat!(
        "later = \"kept\"\n",
        "# mine\n",
        "[contexts.prod] # far away\n",
        "  native = \"b.example:9443\"\n",
        "token = \"a \\\"b\\\" \\\\ \\u00e9\" # quoted\n",
    );
    write(place.path(), text, 0o600);
    Contexts::update(place.path(), |contexts| contexts.put(context("dev", "[::1]:1", 1)))
        .expect("the file is changed");
    let written = fs::read_to_string(place.path().join(FILE)).expect("it is text");
    for kept in
        ["later = \"kept\"\n", "native = \"b.example:9443\"\n", "token = \"a \\\"b\\\" \\\\ é\"\n"]
    {
        assert!(written.contains(kept), "{kept} is not in\n{written}");
    }
}

#[test]
fn the_pin_of_a_loopback_port_is_the_newest_and_no_other_machine_has_one() {
    let mut contexts = Contexts::default();
    contexts.put(context("old", "localhost:9443", 1));
    contexts.put(context("other-port", "127.0.0.1:9444", 2));
    contexts.put(context("new", "[::1]:9443", 3));
    contexts.put(context("remote", "192.0.2.1:9443", 4));
    let at = |ip: IpAddr, port| contexts.loopback_pin(SocketAddr::new(ip, port));
    let four = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(at(four, 9443), Some(pin(3)));
    assert_eq!(at(Ipv6Addr::LOCALHOST.into(), 9444), Some(pin(2)));
    assert_eq!(at(four, 9445), None);
    assert_eq!(at(IpAddr::from([192, 0, 2, 1]), 9443), None, "a remote pin is given by hand");
}

#[test]
fn the_file_does_not_grow_without_end() {
    let mut contexts = Contexts::default();
    for number in 0..2 * CONTEXTS_MAX {
        contexts.put(context(&format!("dev-{number}"), "127.0.0.1:1", 1));
    }
    assert_eq!(contexts.iter().count(), CONTEXTS_MAX);
    assert!(contexts.get("dev-0").is_none() && contexts.get("dev-127").is_some());
    assert!(contexts.remove("dev-127") && !contexts.remove("dev-127"));
}

#[test]
fn a_file_that_others_may_write_is_not_believed() {
    let place = temporary();
    write(place.path(), "", 0o620);
    let error = Contexts::load(place.path()).expect_err("its group may write it").to_string();
    assert!(error.contains("mode 620 lets others write it; run `chmod 600 "), "{error}");
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let place = temporary();
    let path = place.path().join(FILE);
    let long = format!("x = \"{}\"", "y".repeat(70_000));
    for (text, line, reason) in [
        ("\ncurrent = dev", 2, "expected is `key = \"text\"`, `[contexts.name]` or a comment"),
        ("[contexts]", 1, "expected is `[contexts.name]`"),
        ("[contexts.a b]", 1, "expected is `[contexts.name]`"),
        ("[contexts.a] b", 1, "expected is `[contexts.name]`"),
        ("[contexts.a]\n[contexts.a]", 2, "[contexts.a] is there twice"),
        ("[contexts.a]\npin = \"md5:1\"", 2, "the pin `md5:1` does not begin with `sha256:`"),
        ("a = \"b", 1, "expected is `key = \"text\"`, `[contexts.name]` or a comment"),
        ("a = \"\\u00\"", 1, "expected is `key = \"text\"`, `[contexts.name]` or a comment"),
        ("a = \"b\" c", 1, "expected is `key = \"text\"`, `[contexts.name]` or a comment"),
    ] {
        write(place.path(), text, 0o600);
        let error = Contexts::load(place.path()).expect_err(text).to_string();
        assert_eq!(error, format!("{}:{line}: {reason}", path.display()), "{text}");
    }
    write(place.path(), &long, 0o600);
    assert!(matches!(Contexts::load(place.path()), Err(ContextsError::TooLong { .. })));
}

#[test]
fn writers_wait_for_each_other() {
    let place = temporary();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let directory = place.path();
            scope.spawn(move || {
                let name = format!("dev-{number}");
                Contexts::update(directory, |contexts| {
                    contexts.put(context(&name, "127.0.0.1:1", 1));
                })
                .expect("the file is changed");
            });
        }
    });
    let contexts = Contexts::load(place.path()).expect("it is whole");
    assert_eq!(contexts.iter().count(), 8);
}

#[test]
fn the_context_before_is_remembered_and_using_the_same_again_changes_nothing() {
    let place = temporary();
    Contexts::update(place.path(), |contexts| {
        contexts.put(context("dev", "[::1]:1", 1));
        contexts.put(context("prod", "b.example:9443", 2));
        assert_eq!(contexts.previous(), None);
        for name in ["dev", "prod", "prod"] {
            contexts.set_current(name);
        }
    })
    .expect("the file is written");
    let mut contexts = Contexts::load(place.path()).expect("it is there");
    let names = |contexts: &Contexts| {
        [contexts.current(), contexts.previous()].map(|one| one.map(|one| one.name.clone()))
    };
    assert_eq!(names(&contexts), [Some("prod".to_owned()), Some("dev".to_owned())]);
    contexts.remove("dev");
    assert_eq!(contexts.previous(), None, "it is gone");
}

#[test]
fn a_context_keeps_whom_to_trust_and_what_to_show() {
    let place = temporary();
    let mut prod = Context::new("prod").expect("a legal name");
    prod.native = Some("b.example:9443".to_owned());
    prod.ca = Some("ca.crt".to_owned());
    prod.certificate = Some("/etc/me/me.crt".to_owned());
    prod.key = Some("/etc/me/me.key".to_owned());
    Contexts::update(place.path(), |contexts| contexts.put(prod.clone())).expect("it is written");
    let contexts = Contexts::load(place.path()).expect("it is there");
    assert_eq!(contexts.get("prod"), Some(&prod));
}
