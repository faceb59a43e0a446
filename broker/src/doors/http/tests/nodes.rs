//! Nodes as a whole and the ways between them, asked for over HTTP.

use super::*;
use crate::config::Origin;
use crate::local_cluster::{self, LocalCluster};
use std::net::SocketAddr;

/// Three nodes under control, and their HTTP doors.
async fn three(data: &TempDir) -> (LocalCluster, Vec<SocketAddr>) {
    let mut sources = Sources::default();
    for door in ["kafka", "native", "http"] {
        sources.add_flags(&[format!("listeners.{door}=127.0.0.1:0")]);
    }
    sources.say("node.data_dir", &data.path().to_string_lossy(), Origin::Dev);
    let start = Start { ephemeral: true, ..Start::of(Mode::Dev) };
    let loaded = load(start, &sources).expect("the settings are valid");
    let configs = local_cluster::configs(&loaded, 3).expect("nothing is shared");
    local_cluster::prepare(data.path(), 3).expect("it is empty");
    let mut nodes = local_cluster::settings(&configs);
    local_cluster::control(&mut nodes, 0x8f31);
    let on_failure = |failure| eprintln!("a node has failed: {failure}");
    let cluster = LocalCluster::start(nodes, Arc::new(on_failure)).await.expect("it starts");
    let doors = cluster.nodes().iter().filter_map(|node| node.addresses().http).collect();
    (cluster, doors)
}

#[tokio::test]
async fn leaders_move_nodes_die_and_ways_are_cut_over_http() {
    let data = TempDir::new().expect("a temporary directory");
    let (cluster, doors) = three(&data).await;
    let done = (200, json!({}));
    let topic = json!({ "topic": "orders", "partitions": 1 });
    assert_eq!(post(doors[0], "/test/v1/seed_topic", &topic).await, done);
    for node in [2, 3, 1] {
        let to = json!({ "topic": "orders", "partition": 0, "node": node });
        assert_eq!(post(doors[1], "/test/v1/move_leader", &to).await, done);
        let found = ask(doors[2], "GET", "/test/v1/leader?topic=orders&partition=0").await;
        assert_eq!(found, (200, format!("{{\"node\":{node}}}\n")));
    }
    assert_eq!(post(doors[1], "/test/v1/shuffle_leaders", &json!({})).await, done);
    let link = json!({ "from": 1, "to": 2, "both": false });
    assert_eq!(post(doors[0], "/test/v1/cut_link", &link).await, done);
    let slow = json!({ "from": 1, "to": 3, "ms": 5 });
    assert_eq!(post(doors[0], "/test/v1/delay_link", &slow).await, done);
    for to in [2, 3] {
        let link = json!({ "from": 1, "to": to });
        assert_eq!(post(doors[0], "/test/v1/restore_link", &link).await, done);
    }
    assert_eq!(post(doors[0], "/test/v1/pause", &json!({ "node": 2 })).await, done);
    assert_eq!(post(doors[0], "/test/v1/resume", &json!({ "node": 2 })).await, done);
    assert_eq!(post(doors[0], "/test/v1/kill", &json!({ "node": 2 })).await, done);
    assert!(TcpStream::connect(doors[1]).await.is_err(), "a dead node has no door");
    assert_eq!(post(doors[0], "/test/v1/restart", &json!({ "node": 2 })).await, done);
    assert_eq!(ask(doors[1], "GET", "/readyz").await.0, 200);
    assert_eq!(ask(doors[2], "GET", "/test/v1/seed").await.1, "{\"seed\":\"8f31\"}\n");
    cluster.stop().expect("it stops");
}

#[tokio::test]
async fn a_node_is_not_asked_to_silence_itself_and_who_is_not_there_is_named() {
    let data = TempDir::new().expect("a temporary directory");
    let (cluster, doors) = three(&data).await;
    let (own, link) = (json!({ "node": 1 }), json!({ "from": 1, "to": 4 }));
    for (route, body, said) in [
        ("pause", &own, "ask another node's HTTP door"),
        ("kill", &own, "ask another node's HTTP door"),
        ("restart", &json!({ "node": 4 }), "there is no node 4 here; the nodes are 1 to 3"),
        ("cut_link", &link, "there is no node 4 here; the nodes are 1 to 3"),
    ] {
        let (status, body) = post(doors[0], &format!("/test/v1/{route}"), body).await;
        assert_eq!((status, &body["error"]), (409, &json!("E2004")), "{route}: {body}");
        assert!(body["message"].to_string().contains(said), "{route}: {body}");
    }
    let (status, body) = ask(doors[0], "GET", "/test/v1/leader?partition=0").await;
    assert_eq!((status, code(&body).as_str()), (400, "E1307"));
    cluster.stop().expect("it stops");
}

#[tokio::test]
async fn one_node_alone_cannot_stand_still() {
    let node = Served::start(true).await;
    for route in ["pause", "kill"] {
        let (status, body) = node.post(&format!("/test/v1/{route}"), &json!({})).await;
        assert_eq!((status, &body["error"]), (409, &json!("E2004")), "{route}: {body}");
    }
    node.stop().await;
}
