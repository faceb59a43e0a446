//! Precedence, every kind of fault by its exact words, and the table of keys itself.

use super::keys::{KEYS, Kind, find};
use super::value::{Raw, allowed, store};
use super::*;
use std::net::SocketAddr;
use std::path::Path;

fn start(mode: Mode) -> Start {
    Start::of(mode)
}

fn sources(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Sources {
    let mut sources = Sources::default();
    sources.add_file(Path::new("node.toml"), file);
    sources.add_environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    sources.add_flags(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
    sources
}

fn serve(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, String> {
    load(start(Mode::Serve), &sources(file, variables, flags)).map_err(|all| all.to_string())
}

fn from_file(file: &str) -> Result<Loaded, String> {
    serve(file, &[], &[])
}

fn from_flags(flags: &[&str]) -> Result<Loaded, String> {
    serve("", &[], flags)
}

#[track_caller]
fn refused(loaded: Result<Loaded, String>, expected: &str) {
    match loaded {
        Err(found) => assert_eq!(found, expected),
        Ok(_) => panic!("accepted, but expected: {expected}"),
    }
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let Loaded { config, origins, .. } = from_file("").unwrap();
    assert_eq!(config.node.id.get(), 1);
    assert_eq!(config.node.data_dir, Path::new("data"));
    let listener = config.listeners.kafka.unwrap();
    assert_eq!(listener.address, "127.0.0.1:9092".parse::<SocketAddr>().unwrap());
    assert!(!listener.pair_loopback);
    assert_eq!(config.listeners.kafka_advertised, Advertised::Auto);
    assert_eq!(config.cluster.voters, ["1@127.0.0.1:9644"]);
    assert_eq!(config.topics.replication_factor_default, None);
    assert_eq!(config.groups.offsets_retention_minutes, 10_080);
    assert_eq!(config.limits.connections_per_ip_max, Some(256));
    assert_eq!(config.limits.request_memory_bytes_max, 1 << 30);
    assert!(origins.values().all(|origin| *origin == Origin::Default));
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file = "[topics]\npartitions_default = 2\n";
    let variables = [("BATEAU_TOPICS__PARTITIONS_DEFAULT", "3")];
    let flags = ["topics.partitions_default=4"];
    let key = "topics.partitions_default";
    let seen =
        |loaded: Loaded| (loaded.config.topics.partitions_default, loaded.origins[key].to_string());
    assert_eq!(seen(serve(file, &variables, &flags).unwrap()), (4, "-X".to_owned()));
    let variable = "variable BATEAU_TOPICS__PARTITIONS_DEFAULT".to_owned();
    assert_eq!(seen(serve(file, &variables, &[]).unwrap()), (3, variable));
    assert_eq!(seen(serve(file, &[], &[]).unwrap()), (2, "node.toml:2".to_owned()));
    assert_eq!(seen(serve("", &[], &[]).unwrap()), (1, "default".to_owned()));
}

#[test]
fn dev_turns_limits_per_address_off_and_listens_on_both_loopbacks() {
    let config = load(start(Mode::Dev), &Sources::default()).unwrap().config;
    assert_eq!(config.limits.connections_per_ip_max, None);
    assert_eq!(config.limits.connections_per_ip_second_max, None);
    let listener = config.listeners.kafka.unwrap();
    assert_eq!(listener.paired(51_000), Some("[::1]:51000".parse().unwrap()));
}

#[test]
fn dev_honours_a_limit_per_address_that_somebody_asked_for() {
    let sources = sources("", &[], &["limits.connections_per_ip_max=3"]);
    let config = load(start(Mode::Dev), &sources).unwrap().config;
    assert_eq!(config.limits.connections_per_ip_max, Some(3));
}

#[test]
fn sizes_and_durations_are_numbers_or_strings_with_a_unit() {
    let file = "[limits]\nconnection_idle_ms = \"5m\"\nrequest_memory_bytes_max = \"2GiB\"\n\
                kafka_frame_bytes_max = 2097152\n[node]\nshutdown_grace_ms = 250\n";
    let config = from_file(file).unwrap().config;
    assert_eq!(config.limits.connection_idle_ms, 300_000);
    assert_eq!(config.limits.request_memory_bytes_max, 2 << 30);
    assert_eq!(config.limits.kafka_frame_bytes_max, 2 << 20);
    assert_eq!(config.node.shutdown_grace_ms, 250);
    let mib = from_flags(&["limits.fetch_reply_bytes_max=1MB"]).unwrap().config;
    assert_eq!(mib.limits.fetch_reply_bytes_max, 1_000_000);
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest_one() {
    refused(
        from_file("[topics]\n\npartition_default = 4\n"),
        "topics.partition_default = 4 (node.toml:3): no such key; the nearest is \
         topics.partitions_default, 1 to 10000",
    );
    refused(
        serve("", &[("BATEAU_NODE__RACKS", "a")], &[]),
        "node.racks = a (variable BATEAU_NODE__RACKS): no such key; the nearest is node.rack, \
         text of at most 1024 bytes",
    );
    refused(
        from_file("auto_create = false\n"),
        "auto_create = false (node.toml:1): no such key; the nearest is topics.auto_create, \
         true or false",
    );
    refused(
        from_file("[topic]\n"),
        "topic = [topic] (node.toml:1): no such key; the nearest is topics.auto_create, \
         true or false",
    );
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    refused(
        from_flags(&["topics.partitions_default=0"]),
        "topics.partitions_default = 0 (-X): allowed is 1 to 10000",
    );
    refused(
        from_file("[node]\nid = -1\n"),
        "node.id = -1 (node.toml:2): allowed is 1 to 2147483647",
    );
    refused(
        from_file("[limits]\nkafka_frame_bytes_max = \"2GiB\"\n"),
        "limits.kafka_frame_bytes_max = \"2GiB\" (node.toml:2): allowed is 4KiB to 1GiB",
    );
    refused(
        from_flags(&["limits.connection_idle_ms=10ms"]),
        "limits.connection_idle_ms = 10ms (-X): allowed is 1s to 1d",
    );
    refused(
        from_flags(&["topics.min_insync_replicas=0"]),
        "topics.min_insync_replicas = 0 (-X): allowed is -1 or 1 to 7",
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    refused(
        from_file("[topics]\nauto_create = \"yes\"\n"),
        "topics.auto_create = \"yes\" (node.toml:2): allowed is true or false",
    );
    refused(
        from_file("[topics]\npartitions_default = \"4\"\n"),
        "topics.partitions_default = \"4\" (node.toml:2): allowed is 1 to 10000",
    );
    refused(
        from_file("[topics]\npartitions_default = 1.5\n"),
        "topics.partitions_default = 1.5 (node.toml:2): allowed is 1 to 10000",
    );
    refused(
        from_flags(&["listeners.kafka=9092"]),
        "listeners.kafka = 9092 (-X): allowed is an address such as 127.0.0.1:9092, [::1]:9092 \
         or localhost:9092, or \"off\"",
    );
    refused(
        from_flags(&["listeners.kafka_advertised=broker:0"]),
        "listeners.kafka_advertised = broker:0 (-X): allowed is \"auto\" or host:port with a \
         port from 1 to 65535",
    );
}

#[test]
fn all_faults_are_told_at_once_a_line_each() {
    let file = "[node]\nid = 0\n[topics]\npartitoins_default = 4\n[auth]\nrequired = true\n";
    refused(
        serve(file, &[], &["nonsense"]),
        "-X nonsense: expected key=value, as in -X topics.partitions_default=4\n\
         node.id = 0 (node.toml:2): allowed is 1 to 2147483647\n\
         topics.partitoins_default = 4 (node.toml:4): no such key; the nearest is \
         topics.partitions_default, 1 to 10000\n\
         auth.required = true (node.toml:6): this build has no authentication",
    );
}

#[test]
fn a_fault_in_the_file_counts_although_a_flag_overrides_it() {
    let loaded = serve("[node]\nid = 0\n", &[], &["node.id=3"]);
    refused(loaded, "node.id = 0 (node.toml:2): allowed is 1 to 2147483647");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let found = from_file("[node]\nid = \n").unwrap_err();
    assert!(found.starts_with("node.toml:2: "), "{found}");
    assert_eq!(found.lines().count(), 1, "{found}");
}

#[test]
fn a_feature_that_is_not_built_stops_the_start_by_name() {
    let cases = [
        ("auth.required=true", "auth.required = true (-X): this build has no authentication"),
        ("auth.superusers=u", "auth.superusers = u (-X): this build has no authentication"),
    ];
    for (flag, expected) in cases {
        refused(from_flags(&[flag]), expected);
    }
}

#[test]
fn nodes_that_speak_in_plaintext_beyond_loopback_say_so() {
    let beyond = ["listeners.peers=0.0.0.0:9644"];
    refused(
        from_flags(&beyond),
        "listeners.peers = 0.0.0.0:9644 (-X): a listener beyond loopback needs [tls], or \
         listeners.allow_plaintext = true, which is false (default)",
    );
    assert!(from_flags(&[beyond[0], "listeners.allow_plaintext=true"]).is_ok());
    let files = ["tls.cert=node.crt", "tls.key=node.key", "tls.client_ca=nodes.crt"];
    assert!(from_flags(&[beyond[0], files[0], files[1], files[2]]).is_ok());
}

#[test]
fn encrypted_nodes_need_an_authority_to_know_each_other_by() {
    let files = ["tls.cert=node.crt", "tls.key=node.key"];
    let voters = "cluster.voters=1@127.0.0.1:9644,2@127.0.0.1:9645";
    refused(
        from_flags(&[files[0], files[1], voters]),
        "tls.client_ca =  (default): listeners.peers = 127.0.0.1:9644 (default) needs it beside \
         tls.cert: the authority of the nodes' certificates",
    );
    assert!(from_flags(&[files[0], files[1], "tls.client_ca=nodes.crt", voters]).is_ok());
    assert!(from_flags(&files).is_ok(), "a node that is alone has nobody to know");
}

#[test]
fn a_feature_to_come_is_accepted_where_nothing_is_asked_of_it() {
    let file = "[listeners]\npeers = \"127.0.0.1:9644\"\n[tls]\ncert = \"\"\n\
                [auth]\nrequired = false\nsuperusers = []\n[topics]\nmin_insync_replicas = 1\n";
    assert!(from_file(file).is_ok());
}

#[test]
fn the_native_door_is_open_unless_it_is_off_and_encrypted_wherever_it_is() {
    let native = |flags: &[&str]| from_flags(flags).unwrap().config.listeners.native;
    assert_eq!(native(&[]).unwrap().address, "127.0.0.1:9443".parse().unwrap());
    assert_eq!(native(&["listeners.native=off"]), None);
    let far = ["listeners.native=0.0.0.0:9443", "listeners.native_advertised=node:9443"];
    assert_eq!(native(&far).unwrap().address, "0.0.0.0:9443".parse().unwrap());
}

#[test]
fn the_http_door_is_open_unless_it_is_off() {
    let http = |flags: &[&str]| from_flags(flags).unwrap().config.listeners.http;
    assert_eq!(http(&[]).unwrap().address, "127.0.0.1:8080".parse().unwrap());
    assert!(http(&["listeners.http=localhost:0"]).unwrap().pair_loopback);
    assert_eq!(http(&["listeners.http=off"]), None);
    refused(
        from_flags(&["listeners.http=0.0.0.0:8080"]),
        "listeners.http = 0.0.0.0:8080 (-X): a listener beyond loopback needs [tls], or \
         listeners.allow_plaintext = true, which is false (default)",
    );
}

#[test]
fn a_listener_beyond_loopback_says_plaintext_and_names_its_address() {
    let beyond = ["listeners.kafka=0.0.0.0:9092"];
    refused(
        from_flags(&beyond),
        "listeners.kafka = 0.0.0.0:9092 (-X): a listener beyond loopback needs [tls], or \
         listeners.allow_plaintext = true, which is false (default)\n\
         listeners.kafka_advertised = auto (default): listeners.kafka = 0.0.0.0:9092 (-X) lies \
         beyond loopback, so name the host:port that clients reach",
    );
    let mut flags = beyond.to_vec();
    flags.push("listeners.allow_plaintext=true");
    flags.push("listeners.kafka_advertised=broker-1:9092");
    let advertised = from_flags(&flags).unwrap().config.listeners.kafka_advertised;
    assert_eq!(advertised, Advertised::At { host: "broker-1".to_owned(), port: 9092 });
    flags.push("listeners.kafka_advertised=0.0.0.0:9092");
    refused(
        from_flags(&flags),
        "listeners.kafka_advertised = 0.0.0.0:9092 (-X): is an address to listen on, which no \
         client can reach",
    );
}

#[test]
fn a_certificate_has_its_key_and_lets_a_listener_leave_loopback() {
    let files = ["tls.cert=node.crt", "tls.key=node.key"];
    let tls = from_flags(&files).unwrap().config.tls.unwrap();
    assert_eq!(
        (tls.cert.as_path(), tls.key.as_path()),
        (Path::new("node.crt"), Path::new("node.key"))
    );
    assert_eq!(tls.client_ca, None);
    let beyond = ["listeners.kafka=0.0.0.0:9092", "listeners.kafka_advertised=broker-1:9092"];
    let config = from_flags(&[beyond, files].concat()).unwrap().config;
    assert!(!config.listeners.allow_plaintext && config.tls.is_some());
    assert_eq!(from_flags(&["tls.cert=", "tls.client_ca="]).unwrap().config.tls, None);
    refused(from_flags(&files[..1]), "tls.key =  (default): tls.cert = node.crt (-X) needs it");
    refused(from_flags(&files[1..]), "tls.cert =  (default): tls.key = node.key (-X) needs it");
    refused(
        from_file("[tls]\nclient_ca = \"clients.crt\"\n"),
        "tls.cert =  (default): tls.client_ca = \"clients.crt\" (node.toml:2) needs it",
    );
}

#[test]
fn founders_are_named_once_each_this_node_among_them_with_a_door_for_peers() {
    let trio = "cluster.voters=1@a:1,2@b:1,3@[::1]:1";
    let config = from_flags(&[trio]).unwrap().config;
    assert_eq!(config.cluster.voters, ["1@a:1", "2@b:1", "3@[::1]:1"]);
    assert!(config.listeners.peers.is_some(), "other nodes must find a door");
    assert!(from_flags(&[]).unwrap().config.listeners.peers.is_none());
    assert!(from_flags(&["listeners.peers=127.0.0.1:1"]).unwrap().config.listeners.peers.is_some());
    for (flags, rule) in [
        (&["cluster.voters=1@a:1,1@b:1"][..], "names node 1 twice"),
        (&["cluster.voters=1@a:1,2b:1"], "\"2b:1\" is no voter, expected id@host:port"),
        (&[trio, "listeners.peers=off"], "so listeners.peers cannot be off"),
    ] {
        let text = from_flags(flags).unwrap_err().to_string();
        assert!(text.contains(rule), "{text}");
    }
}

#[test]
fn a_node_that_joins_names_members_and_has_a_door_for_peers() {
    let flags = ["node.id=7", "cluster.voters=1@127.0.0.1:9644"];
    let config = from_flags(&flags).unwrap().config;
    assert!(config.listeners.peers.is_some(), "the members dial it");
    refused(
        from_flags(&[&flags[..], &["listeners.peers=off"]].concat()),
        "cluster.voters = 1@127.0.0.1:9644 (-X): names other nodes, so listeners.peers cannot be \
         off",
    );
    let everywhere = ["listeners.peers=0.0.0.0:9644", "listeners.allow_plaintext=true"];
    let unreachable = [&flags[..], &everywhere].concat();
    refused(
        from_flags(&unreachable),
        "listeners.peers_advertised = auto (default): listeners.peers = 0.0.0.0:9644 (-X) is an \
         address to listen on, and cluster.voters does not name this node, so name the host:port \
         that members dial",
    );
    let told = ["listeners.peers_advertised=seven.example:9644"];
    assert!(from_flags(&[&unreachable[..], &told].concat()).is_ok());
    let mut sources = Sources::default();
    sources.add_flags(&flags.map(str::to_owned));
    let dev = load(Start::of(Mode::Dev), &sources).map_err(|problems| problems.to_string());
    refused(dev, "cluster.voters = 1@127.0.0.1:9644 (-X): names node 1, but node.id is 7 (-X)");
}

#[test]
fn the_only_voter_is_this_node() {
    assert_eq!(from_flags(&["node.id=7"]).unwrap().config.cluster.voters, ["7@127.0.0.1:9644"]);
    refused(
        from_flags(&["cluster.voters=me"]),
        "cluster.voters = me (-X): \"me\" is no voter, expected id@host:port",
    );
    refused(
        from_flags(&["cluster.voters="]),
        "cluster.voters =  (-X): one entry, this node's own, is a complete cluster",
    );
}

#[test]
fn limits_that_enclose_each_other_are_in_order() {
    refused(
        from_flags(&["limits.kafka_frame_bytes_max=64MiB"]),
        "limits.kafka_frame_bytes_max = 64MiB (-X): must not exceed \
         limits.connection_inflight_bytes_max = 32MiB (default)",
    );
    refused(
        from_flags(&["groups.session_timeout_min_ms=1h"]),
        "groups.session_timeout_min_ms = 1h (-X): must not exceed groups.session_timeout_max_ms \
         = 1800000 (default)",
    );
}

#[test]
fn dev_has_its_own_place_and_small_reserves_which_a_flag_overrides() {
    let dev = |flags: &[&str]| load(start(Mode::Dev), &sources("", &[], flags)).unwrap();
    let Loaded { config, origins, .. } = dev(&[]);
    assert_eq!(config.node.data_dir, Path::new("./.bateau"));
    assert_eq!(config.limits.disk_free_soft_bytes, 64 << 20);
    assert_eq!(config.limits.disk_ballast_bytes, 4 << 20);
    assert_eq!(origins["limits.disk_ballast_bytes"].to_string(), "default of dev");
    let flag = dev(&["limits.disk_ballast_bytes=1MiB"]);
    assert_eq!(flag.config.limits.disk_ballast_bytes, 1 << 20);
    assert_eq!(from_file("").unwrap().config.limits.disk_free_soft_bytes, 5 << 30);
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [("BATEAU_SEED", "8f31"), ("PATH", "/bin"), ("XBATEAU_NODE__ID", "9")];
    assert_eq!(serve("", &others, &[]).unwrap().config.node.id.get(), 1);
}

#[test]
fn every_default_lies_in_its_own_range_and_every_key_sets_its_field() {
    let mut config = from_file("").unwrap().config;
    for key in KEYS {
        let raw = Raw::Loose(key.default.to_owned());
        assert!(store(key, &raw, &mut config).is_some(), "{}", key.name);
        assert!(!key.meaning.is_empty() && key.meaning.ends_with('.'), "{}", key.name);
        assert!(!allowed(key).is_empty());
        assert_eq!(KEYS.iter().filter(|other| other.name == key.name).count(), 1, "{}", key.name);
    }
}

#[test]
fn both_ends_of_every_range_are_accepted_and_one_beyond_is_not() {
    let mut config = from_file("").unwrap().config;
    let mut accepts = |key: &str, number: u64| {
        let raw = Raw::Loose(number.to_string());
        store(find(key).unwrap(), &raw, &mut config).is_some()
    };
    for key in KEYS {
        let Kind::Number { min, max, .. } = key.kind else { continue };
        assert!(accepts(key.name, min) && accepts(key.name, max), "{}", key.name);
        assert!(!accepts(key.name, max + 1), "{}", key.name);
        assert!(min == 0 || !accepts(key.name, min - 1), "{}", key.name);
    }
}

#[test]
fn advertised_addresses_are_hosts_and_ports() {
    let at = |text: &str| text.parse::<Advertised>().map(|address| address.to_string());
    assert_eq!(at("broker:9092"), Ok("broker:9092".to_owned()));
    assert_eq!(at("[::1]:9092"), Ok("[::1]:9092".to_owned()));
    for wrong in ["", "broker", ":9092", "::1:9092", "[x]:1", "a b:1", "broker:65536"] {
        assert!(at(wrong).is_err(), "{wrong}");
    }
}
