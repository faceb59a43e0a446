//! A trio whose native doors are open, and what an operator's commands say of it.
//!
//! Absent on purpose: faults, which [`crate::operator`] has beside its commands.

use crate::{TIMEOUT, Trio};
use kafka_clients_tests::broker::binary;
use kafka_clients_tests::program::{Program, wait_until};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// `sha256:` and 64 digits.
const PIN_CHARACTERS: usize = 71;

/// Nodes whose native doors are open, and of which some run.
pub struct Cluster {
    /// The nodes.
    pub trio: Trio,
}

impl Cluster {
    /// Founders run and are ready.
    pub fn founded_by(founders: &[usize]) -> Self {
        let mut cluster = Self { trio: Trio::new() };
        founders.iter().for_each(|id| cluster.write(*id, founders));
        founders.iter().for_each(|id| cluster.trio.launch(*id));
        founders.iter().for_each(|id| cluster.trio.until_ready(*id));
        cluster
    }

    /// Writes the file of a node that names these voters, with an open native door.
    pub fn write(&self, id: usize, voters: &[usize]) {
        let text = self.trio.configuration(id, voters);
        let open = format!("native = \"{}\"", Trio::native(id));
        let text = text.replace("native = \"off\"", &open);
        assert!(text.contains(&open), "{text}");
        fs::write(self.trio.file(id), text).expect("it is written");
    }

    /// The native door of a node with the pin that it has logged.
    pub fn url(&self, id: usize) -> String {
        let pin = self.trio.program(id).wait_for_error("its pin", TIMEOUT, |lines| {
            let line = lines.iter().find(|line| line.contains("this pin"))?;
            let start = line.find("sha256:")?;
            line.get(start..start + PIN_CHARACTERS).map(str::to_owned)
        });
        format!("quic://{}?pin={pin}", Trio::native(id))
    }

    /// Runs a command at a node: its exit code, the objects on stdout, and stderr.
    pub fn try_run(&self, at: usize, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--broker", &self.url(at)]);
        command.env_remove("BATEAU_CONTEXT").env_remove("RUST_LOG");
        ended(command)
    }

    /// Has a node that does not run accept its loss: its exit code, the rows, and stderr.
    pub fn unsafe_recover(&self, id: usize, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let mut command = Command::new(binary());
        command.args(["node", "unsafe-recover", "--config"]).arg(self.trio.file(id)).args(more);
        ended(command)
    }

    /// As [`Self::try_run`]; it must end well.
    pub fn run(&self, at: usize, arguments: &[&str]) -> Vec<Value> {
        let (code, objects, said) = self.try_run(at, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        objects
    }

    /// It must be refused, with this code and one cause.
    #[track_caller]
    pub fn refused(&self, at: usize, arguments: &[&str], (exit, code): (i32, &str), cause: &str) {
        let (found, _, said) = self.try_run(at, arguments);
        assert_eq!(found, Some(exit), "{arguments:?}: {said}");
        assert!(said.contains(&format!("error[{code}]: node ")), "{arguments:?}: {said}");
        let causes: Vec<&str> = said.lines().filter(|line| line.starts_with("  cause")).collect();
        assert_eq!(causes.len(), 1, "{arguments:?}: {said}");
        assert!(causes[0].contains(cause), "{arguments:?}: {said}");
    }

    /// A node of the list; `None` where it is not there.
    pub fn node(&self, at: usize, id: usize) -> Option<Value> {
        let nodes = self.run(at, &["node", "list"]);
        nodes.into_iter().find(|node| node["node"] == id)
    }

    /// Lets a node come that dials these members, and waits until it serves.
    pub fn add(&mut self, at: usize, id: usize, members: &[usize]) {
        let told = self.run(at, &["node", "add", &id.to_string()]);
        let voters = told[0]["voters"].as_array().expect("a list").clone();
        let expected: Vec<String> =
            members.iter().map(|one| format!("{one}@127.0.0.1:{}", 9_640 + one)).collect();
        assert_eq!(voters, expected, "what it is to be started with");
        self.write(id, members);
        self.trio.launch(id);
        self.trio.until_ready(id);
    }

    /// Waits until a node of the list is so.
    pub fn until_node(&self, at: usize, id: usize, what: &str, is_so: impl Fn(&Value) -> bool) {
        wait_until(what, TIMEOUT, || self.node(at, id).is_some_and(|node| is_so(&node)));
    }
}

/// Waits for the end of a command: its exit code, the objects on stdout, and stderr.
fn ended(command: Command) -> (Option<i32>, Vec<Value>, String) {
    let mut program = Program::start("bateau", command);
    let status = program.wait_for_exit(TIMEOUT);
    let objects = program.lines().into_iter().filter_map(|line| line.json).collect();
    (status.code(), objects, program.errors().join("\n"))
}
