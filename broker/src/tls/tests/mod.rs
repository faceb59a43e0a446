//! Files that are right, wrong, and changed while a node runs.

pub(crate) mod authority;
mod clients;

use super::files::read;
use super::live::Live;
use super::watch::{Look, Watched};
use super::*;
use authority::{Authority, Identity, write, write_authority};
use bateau_quic::contexts::Contexts;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

/// What is said of these files; the directory is cut out.
fn refused(settings: &TlsSettings, place: &TempDir) -> String {
    let error = read(settings, None, UnixTime::now()).expect_err("the files are wrong");
    error.to_string().replace(&format!("{}/", place.path().display()), "")
}

#[test]
fn right_files_are_read_whatever_stands_around_them() {
    let place = directory();
    let authority = Authority::new("test");
    let identity = authority.node();
    let mut settings = identity.write(place.path());
    settings.client_ca = Some(write_authority(&authority, place.path()));
    let chain = format!("a remark\n{}{}", identity.certificate, authority.pem());
    write(&settings.cert, &chain, 0o644);
    let material = read(&settings, None, UnixTime::now()).expect("all is right");
    assert_eq!(material.certified.cert.len(), 2);
    assert!(material.authorities.is_some());
    let shown = format!("{material:?}");
    assert_eq!(shown, format!("Material {{ pin: {}, .. }}", material.pin), "no secret is shown");
}

#[test]
fn every_wrong_file_is_named_with_what_is_wrong() {
    let place = directory();
    let authority = Authority::new("test");
    let (one, two) = (authority.node(), authority.node());
    let settings = one.write(place.path());
    let with = |name: &str, text: &str, mode: u32| {
        let path = place.path().join(name);
        write(&path, text, mode);
        path
    };
    let cert = |cert| TlsSettings { cert, ..settings.clone() };
    let key = |key| TlsSettings { key, ..settings.clone() };
    let cut: String = one.certificate.chars().take(200).collect();
    let many = one.certificate.repeat(11);
    let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (settings, expected) in [
        (
            cert(place.path().join("none.crt")),
            "tls.cert: none.crt: cannot be read: No such file or directory (os error 2)",
        ),
        (cert(with("empty.crt", "", 0o644)), "tls.cert: empty.crt: has no certificate in PEM"),
        (cert(with("key.crt", &one.key, 0o644)), "tls.cert: key.crt: has no certificate in PEM"),
        (
            cert(with("cut.crt", &cut, 0o644)),
            "tls.cert: cut.crt: certificate 1 cannot be used: a section without its END line",
        ),
        (
            cert(with("der.crt", der, 0o644)),
            "tls.cert: der.crt: certificate 1 cannot be used: invalid peer certificate: \
             BadEncoding",
        ),
        (cert(with("many.crt", &many, 0o644)), "tls.cert: many.crt: has more than 10 certificates"),
        (
            cert(with("long.crt", &" ".repeat(1 << 21), 0o644)),
            "tls.cert: long.crt: longer than 1048576 bytes",
        ),
        (
            cert(with("two.crt", &two.certificate, 0o644)),
            "tls.key: node.key: is not the key of the first certificate in two.crt",
        ),
        (
            key(place.path().join("none.key")),
            "tls.key: none.key: cannot be read: No such file or directory (os error 2)",
        ),
        (
            key(with("crt.key", &one.certificate, 0o600)),
            "tls.key: crt.key: has no private key (PKCS #8, PKCS #1 or SEC 1) in PEM",
        ),
        (
            key(with("open.key", &one.key, 0o644)),
            "tls.key: open.key: mode 644 opens it to others; run `chmod 600 open.key`",
        ),
        (
            TlsSettings { client_ca: Some(with("ca.crt", "x", 0o644)), ..settings.clone() },
            "tls.client_ca: ca.crt: has no certificate in PEM",
        ),
    ] {
        assert_eq!(refused(&settings, &place), expected);
    }
}

#[test]
fn a_certificate_is_refused_before_and_after_its_time() {
    let place = directory();
    let authority = Authority::new("test");
    let ended = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 2, 29);
    assert_eq!(
        refused(&authority.sign(ended).write(place.path()), &place),
        "tls.cert: node.crt: certificate 1 expired on 2020-02-29T00:00:00Z; give a certificate \
         that is valid now"
    );
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3020, 1, 1);
    assert_eq!(
        refused(&authority.sign(early).write(place.path()), &place),
        "tls.cert: node.crt: certificate 1 is not valid before 3020-01-01T00:00:00Z; give a \
         certificate that is valid now"
    );
    // An authority in the chain counts as well.
    let node = authority.node();
    let settings = node.write(place.path());
    let old = authority.sign(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2020, 2, 29);
    });
    write(&settings.cert, &(node.certificate + &old.certificate), 0o644);
    let said = refused(&settings, &place);
    assert!(said.starts_with("tls.cert: node.crt: certificate 2 expired on "), "{said}");
}

#[test]
fn a_certificate_that_other_nodes_would_not_believe_stops_the_start() {
    let place = directory();
    let authority = Authority::new("test");
    let client_ca = Some(write_authority(&authority, place.path()));
    let node = NodeId::new(7);
    let names = |name: &str| {
        let name = SanType::DnsName(name.try_into().expect("ASCII"));
        move |params: &mut CertificateParams| params.subject_alt_names.push(name)
    };
    let look = |identity: Identity| {
        let client_ca = client_ca.clone();
        let settings = TlsSettings { client_ca, ..identity.write(place.path()) };
        read(&settings, Some(node), UnixTime::now()).map_err(|error| error.to_string())
    };
    let own = names("node-7.bateau.internal");
    assert!(look(authority.sign(own.clone())).is_ok());
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let one_way = authority.sign(|params| {
        own.clone()(params);
        params.extended_key_usages = vec![server];
    });
    let lacks = "has no alternative name DNS:node-7.bateau.internal, without a wildcard";
    for (identity, expected) in [
        (authority.node(), lacks),
        (authority.sign(names("node-70.bateau.internal")), lacks),
        (authority.sign(names("*.bateau.internal")), lacks),
        (Authority::new("other").sign(own), "dialled by one: invalid peer certificate: Unknown"),
        (one_way, "dialling one: invalid peer certificate: certificate does not allow"),
    ] {
        let found = look(identity).expect_err(expected);
        assert!(found.starts_with("tls.cert: "), "{found}");
        assert!(found.contains(": other nodes will not believe it: "), "{found}");
        assert!(found.contains(expected), "{found}, expected {expected}");
    }
    let alone = TlsSettings { client_ca, ..authority.node().write(place.path()) };
    assert!(read(&alone, None, UnixTime::now()).is_ok(), "nobody asks a node that is alone");
}

fn live(settings: &TlsSettings) -> Arc<Live> {
    Arc::new(Live::new(read(settings, None, UnixTime::now()).expect("the files are right")))
}

#[test]
fn changed_files_are_exchanged_once_they_fit_together() {
    let place = directory();
    let authority = Authority::new("test");
    let settings = authority.node().write(place.path());
    let live = live(&settings);
    let mut watched = Watched::new(Arc::clone(&live), settings.clone(), None);
    let mut look = || watched.look(UnixTime::now());
    let old = live.material().pin;
    assert!(matches!(look(), Look::Same), "nothing has changed since the start");
    let new = authority.node();
    write(&settings.cert, &new.certificate, 0o644);
    match look() {
        Look::Refused(TlsError::OtherKey { .. }) => {}
        other => panic!("the key is still the old one: {other:?}"),
    }
    assert!(matches!(look(), Look::Same), "it is told once");
    assert_eq!(live.material().pin, old);
    write(&settings.key, &new.key, 0o600);
    let Look::Exchanged(pin) = look() else { panic!("they fit together now") };
    assert_ne!(pin, old);
    assert_eq!(live.material().pin, pin);
    assert!(matches!(look(), Look::Same));
}

#[test]
fn files_that_vanish_or_break_leave_what_is_in_use() {
    let place = directory();
    let authority = Authority::new("test");
    let identity = authority.node();
    let settings = identity.write(place.path());
    let live = live(&settings);
    let mut watched = Watched::new(Arc::clone(&live), settings.clone(), None);
    let pin = live.material().pin;
    let mut refused = || match watched.look(UnixTime::now()) {
        Look::Refused(error) => error.to_string(),
        other => panic!("the files are wrong: {other:?}"),
    };
    fs::remove_file(&settings.key).expect("it is there");
    assert!(refused().contains("node.key: cannot be read"));
    write(&settings.key, &identity.key, 0o640);
    assert!(refused().contains("mode 640 opens it to others"));
    assert_eq!(live.material().pin, pin);
    write(&settings.key, &identity.key, 0o600);
    assert!(matches!(watched.look(UnixTime::now()), Look::Exchanged(_)), "all is well again");
    assert_eq!(live.material().pin, pin);
}

#[test]
fn a_node_makes_one_certificate_and_keeps_it_secret() {
    let place = directory();
    let first = Tls::generated(place.path()).expect("the directory is ours").pin();
    assert_eq!(Tls::generated(place.path()).expect("it is there").pin(), first);
    let path = place.path().join(IDENTITY_FILE);
    let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let error = Tls::generated(place.path()).expect_err("anybody can read it").to_string();
    assert!(error.contains("mode 644 opens the key to others; run `chmod 600 "), "{error}");
    write(&path, "nonsense", 0o600);
    let error = Tls::generated(place.path()).expect_err("it is no key").to_string();
    assert!(error.ends_with("remove it to get a new certificate, and a new pin"), "{error}");
    fs::remove_file(&path).expect("it is there");
    assert_ne!(Tls::generated(place.path()).expect("a new one").pin(), first);
    assert_ne!(Tls::in_memory().pin(), Tls::in_memory().pin());
}

#[test]
fn a_node_for_development_is_found_by_its_port_for_as_long_as_it_lasts() {
    let place = directory();
    let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let pin = |port| Contexts::load(place.path()).expect("ours").loopback_pin(address(port));
    let (one, two) = (Tls::in_memory().pin(), Tls::in_memory().pin());
    let publish = |port, pin, is_lasting| {
        publish(place.path(), address(port), Some(address(9_092)), None, pin, is_lasting)
            .expect("the directory is ours")
    };
    drop(publish(9_443, one, true));
    let passing = publish(50_000, two, false);
    assert_eq!((pin(9_443), pin(50_000)), (Some(one), Some(two)));
    let contexts = Contexts::load(place.path()).expect("ours");
    let dev = contexts.get("dev").expect("the default port has the plain name");
    assert_eq!(dev.kafka.as_deref(), Some("127.0.0.1:9092"));
    drop(passing);
    assert_eq!((pin(9_443), pin(50_000)), (Some(one), None));
    let replaced = publish(50_000, one, false);
    let kept = publish(50_000, two, true);
    drop(replaced);
    assert_eq!(pin(50_000), Some(two), "another's entry is not taken back");
    drop(kept);
}

#[test]
fn the_identity_of_a_test_is_what_it_says() {
    let Identity { certificate, key } = Authority::new("test").client();
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE") && key.contains("PRIVATE KEY"));
}
