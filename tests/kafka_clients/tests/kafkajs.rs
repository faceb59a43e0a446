//! Two services written with kafkajs 2.2.4 run on `bateau dev` unchanged, undisturbed and not.
//!
//! Each test has a network namespace of its own, so the broker really listens on the port 9092
//! of localhost that the services name. Rules of delivery: `kafka_clients_tests::deliveries`.
//!
//! Where the subject is a real Kafka (README.md), one expectation differs: a consumer that
//! subscribes to a topic that does not exist yet is refused there.

use std::time::Duration;

use kafka_clients_tests::broker::{Broker, Subject};
use kafka_clients_tests::deliveries::{self, Orders, Summary};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::{Line, Program};
use kafka_clients_tests::runtimes::{self, Installed};

/// Where the services look for their broker.
const ADDRESS: &str = "127.0.0.1:9092";

/// For whatever takes seconds at most; generous, for busy machines.
const SOON: Duration = Duration::from_secs(60);

/// kafkajs' session timeout is 30 s, after which a dead member's partitions move.
const AFTER_SESSION_TIMEOUT: Duration = Duration::from_secs(90);

/// Starts services and remembers what the ended ones reported.
struct Services {
    installed: Installed,
    orders: Vec<Program>,
    inventories: Vec<Program>,
}

impl Services {
    fn new(installed: Installed) -> Self {
        Self { installed, orders: Vec::new(), inventories: Vec::new() }
    }

    fn start(&self, name: &str, arguments: &[String]) -> Program {
        let mut command = self.installed.command();
        Program::start(name, {
            command.args(arguments);
            command
        })
    }

    /// An order service that publishes `count` orders (`Infinity`: until it is told to stop).
    fn order_service(&mut self, first: usize, count: &str, pause_ms: u64) -> usize {
        let arguments = ["order-service.js", &first.to_string(), count, &pause_ms.to_string()];
        let program = self.start("order service", &arguments.map(str::to_owned));
        self.orders.push(program);
        self.orders.len() - 1
    }

    fn inventory_service(&mut self, name: &str) -> usize {
        let arguments = ["inventory-service.js", name];
        let program = self.start(name, &arguments.map(str::to_owned));
        self.inventories.push(program);
        self.inventories.len() - 1
    }

    fn wait_until_published(&mut self, order_service: usize) {
        let program = &mut self.orders[order_service];
        program.wait_for_events("stopped", 1, SOON);
        let status = program.wait_for_exit(SOON);
        assert!(status.success(), "{status}{}", program.tail());
    }

    fn reported_orders(&self) -> Orders {
        let mut orders = Orders::default();
        for program in &self.orders {
            orders.add(&program.lines());
        }
        orders
    }

    /// Waits until every acknowledged order was delivered to some instance.
    fn wait_until_delivered(&self, timeout: Duration) {
        let acked = self.reported_orders().acked;
        let everywhere = || {
            let lines = self.inventories.iter().flat_map(Program::lines);
            lines.filter_map(|line| position(&line, "delivered")).collect::<Vec<_>>()
        };
        kafka_clients_tests::program::wait_until("all acknowledged orders", timeout, || {
            let delivered: std::collections::BTreeSet<_> = everywhere().into_iter().collect();
            acked.keys().all(|position| delivered.contains(position))
        });
    }

    /// Waits until the group has committed the end of each partition that got orders.
    fn wait_until_committed(&self, timeout: Duration) {
        let acked = self.reported_orders().acked;
        kafka_clients_tests::program::wait_until("all offsets committed", timeout, || {
            let mut committed = std::collections::BTreeMap::new();
            for session in self.sessions() {
                for (partition, offset) in session.committed {
                    let highest = committed.entry(partition).or_insert(offset);
                    *highest = offset.max(*highest);
                }
            }
            acked.keys().all(|(partition, offset)| {
                committed.get(partition).is_some_and(|committed| committed > offset)
            })
        });
    }

    fn sessions(&self) -> Vec<deliveries::Session> {
        let all = self.inventories.iter();
        all.flat_map(|program| deliveries::sessions(program.name(), &program.lines())).collect()
    }

    fn check(&self) -> Summary {
        let orders = self.reported_orders();
        match deliveries::check(&orders, &self.sessions()) {
            Ok(summary) => {
                let test = std::thread::current().name().unwrap_or_default().to_owned();
                println!("{test}: {summary:?}, failed sends: {:?}", orders.failed);
                summary
            }
            Err(faults) => panic!("rules broken:\n  {}", faults.join("\n  ")),
        }
    }
}

fn position(line: &Line, event: &str) -> Option<(i64, i64)> {
    let json = line.json.as_ref().filter(|_| line.event() == Some(event))?;
    Some((json.get("partition")?.as_i64()?, json.get("offset")?.as_str()?.parse().ok()?))
}

fn assigned_partitions(line: &Line) -> Option<usize> {
    let json = line.json.as_ref().filter(|_| line.event() == Some("joined"))?;
    Some(json.get("partitions")?.as_array()?.len())
}

/// Runs `body` with a broker on port 9092 in a network namespace of its own.
fn in_namespace(name: &str, body: impl FnOnce(&mut Broker, Services)) {
    let Some(installed) = runtimes::node() else {
        return runtimes::skip(name, "no Node.js with npm here");
    };
    if namespace::enter(name) {
        let mut broker = Broker::start(None);
        assert_eq!(broker.bootstrap(), ADDRESS);
        body(&mut broker, Services::new(installed));
        assert!(broker.running(), "the broker outlives its clients");
    }
}

fn assert_exactly_once(summary: &Summary, orders: usize) {
    let expected = Summary { acked_count: orders, delivered_count: orders, ..Summary::default() };
    assert_eq!(summary, &expected);
}

#[test]
fn a_consumer_before_its_topic_gets_each_of_1000_orders_once() {
    let name = "a_consumer_before_its_topic_gets_each_of_1000_orders_once";
    in_namespace(name, |_broker, mut services| {
        let inventory = services.inventory_service("inventory-1");
        if Subject::of_this_run() == Subject::Kafka {
            services.inventories[inventory].wait_for_events("crashed", 1, SOON);
            return;
        }
        let all = |lines: &[Line]| lines.iter().find_map(assigned_partitions);
        let count = services.inventories[inventory].wait_for("assignment", SOON, all);
        assert_eq!(count, 4, "the topic is created with all its partitions");
        let orders = services.order_service(1, "1000", 0);
        services.wait_until_published(orders);
        services.wait_until_delivered(SOON);
        assert_exactly_once(&services.check(), 1000);
        let lines = services.inventories[inventory].lines();
        let crashes = lines.iter().filter(|line| matches!(line.event(), Some("crash")));
        assert_eq!(crashes.count(), 0, "it succeeds at its first try");
    });
}

#[test]
fn a_consumer_after_1000_orders_gets_each_once_from_the_beginning() {
    let name = "a_consumer_after_1000_orders_gets_each_once_from_the_beginning";
    in_namespace(name, |_broker, mut services| {
        let orders = services.order_service(1, "1000", 0);
        services.wait_until_published(orders);
        services.inventory_service("inventory-1");
        services.wait_until_delivered(SOON);
        services.wait_until_committed(SOON);
        assert_exactly_once(&services.check(), 1000);
    });
}

#[test]
fn a_second_instance_shares_the_partitions_while_orders_flow() {
    let name = "a_second_instance_shares_the_partitions_while_orders_flow";
    in_namespace(name, |_broker, mut services| {
        let orders = services.order_service(1, "Infinity", 2);
        services.orders[orders].wait_for_events("acked", 50, SOON);
        let first = services.inventory_service("inventory-1");
        services.inventories[first].wait_for_events("delivered", 200, SOON);
        let second = services.inventory_service("inventory-2");
        services.inventories[second].wait_for_events("delivered", 200, SOON);
        services.orders[orders].wait_for_events("acked", 1000, SOON);
        services.orders[orders].terminate();
        services.wait_until_published(orders);
        services.wait_until_delivered(SOON);
        for inventory in [first, second] {
            let lines = services.inventories[inventory].lines();
            let last = lines.iter().filter_map(assigned_partitions).next_back();
            assert_eq!(last, Some(2), "four partitions are shared by two instances");
        }
        let summary = services.check();
        assert_exactly_once(&summary, summary.acked_count);
    });
}

#[test]
fn another_instance_takes_over_from_one_killed() {
    let name = "another_instance_takes_over_from_one_killed";
    in_namespace(name, |_broker, mut services| {
        let orders = services.order_service(1, "Infinity", 5);
        services.orders[orders].wait_for_events("acked", 50, SOON);
        let killed = services.inventory_service("inventory-1");
        let heir = services.inventory_service("inventory-2");
        for inventory in [killed, heir] {
            services.inventories[inventory].wait_for_events("delivered", 100, SOON);
        }
        services.inventories[killed].kill();
        services.inventories[heir].wait_for("takeover", AFTER_SESSION_TIMEOUT, |lines| {
            lines.iter().filter_map(assigned_partitions).next_back().filter(|count| *count == 4)
        });
        services.orders[orders].terminate();
        services.wait_until_published(orders);
        services.wait_until_delivered(SOON);
        let summary = services.check();
        assert_eq!(summary.duplicated_orders, Vec::<i64>::new());
    });
}

#[test]
fn an_instance_that_disconnects_and_comes_back_repeats_nothing() {
    let name = "an_instance_that_disconnects_and_comes_back_repeats_nothing";
    in_namespace(name, |_broker, mut services| {
        let orders = services.order_service(1, "Infinity", 2);
        services.orders[orders].wait_for_events("acked", 50, SOON);
        for name in ["inventory-1", "inventory-1 again", "inventory-1 once more"] {
            let inventory = services.inventory_service(name);
            services.inventories[inventory].wait_for_events("delivered", 200, SOON);
            services.inventories[inventory].terminate();
            services.inventories[inventory].wait_for_events("stopped", 1, SOON);
            let status = services.inventories[inventory].wait_for_exit(SOON);
            assert!(status.success(), "{status}");
        }
        services.orders[orders].terminate();
        services.wait_until_published(orders);
        services.inventory_service("inventory-1 at last");
        services.wait_until_delivered(SOON);
        let summary = services.check();
        assert_exactly_once(&summary, summary.acked_count);
    });
}

#[test]
fn a_broker_that_was_stopped_after_all_commits_repeats_nothing() {
    let name = "a_broker_that_was_stopped_after_all_commits_repeats_nothing";
    in_namespace(name, |broker, mut services| {
        let orders = services.order_service(1, "300", 0);
        services.wait_until_published(orders);
        let lasting = services.inventory_service("inventory-1");
        services.wait_until_delivered(SOON);
        services.wait_until_committed(SOON);
        broker.terminate();
        broker.restart();
        let orders = services.order_service(301, "300", 0);
        services.wait_until_published(orders);
        services.wait_until_delivered(AFTER_SESSION_TIMEOUT);
        services.wait_until_committed(SOON);
        assert_exactly_once(&services.check(), 600);

        // A new instance on a restarted broker knows nothing but the committed offsets.
        services.inventories[lasting].terminate();
        services.inventories[lasting].wait_for_exit(SOON);
        broker.terminate();
        broker.restart();
        services.inventory_service("inventory-2");
        let orders = services.order_service(601, "300", 0);
        services.wait_until_published(orders);
        services.wait_until_delivered(SOON);
        assert_exactly_once(&services.check(), 900);
    });
}

#[test]
fn a_broker_killed_in_the_middle_loses_nothing_acknowledged() {
    let name = "a_broker_killed_in_the_middle_loses_nothing_acknowledged";
    const KILLS: usize = 3;
    in_namespace(name, |broker, mut services| {
        let orders = services.order_service(1, "Infinity", 2);
        services.orders[orders].wait_for_events("acked", 50, SOON);
        let inventory = services.inventory_service("inventory-1");
        for kill in 0..KILLS {
            let more = |event: &str, lines: &[Line]| {
                lines.iter().filter(|line| line.event() == Some(event)).count() + 200
            };
            let acked = more("acked", &services.orders[orders].lines());
            let delivered = more("delivered", &services.inventories[inventory].lines());
            services.orders[orders].wait_for_events("acked", acked, SOON);
            let timeout = if kill == 0 { SOON } else { AFTER_SESSION_TIMEOUT };
            services.inventories[inventory].wait_for_events("delivered", delivered, timeout);
            broker.kill();
            broker.restart();
        }
        let acked = services.reported_orders().acked.len();
        services.orders[orders].wait_for_events("acked", acked + 50, AFTER_SESSION_TIMEOUT);
        services.orders[orders].terminate();
        services.wait_until_published(orders);
        services.wait_until_delivered(AFTER_SESSION_TIMEOUT);
        let summary = services.check();
        // The service sends one order at a time, so each kill interrupts at most one send.
        let retried = summary.duplicated_orders.len();
        assert!(retried <= KILLS, "{retried} orders twice after {KILLS} kills");
    });
}
