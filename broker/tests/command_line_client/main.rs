//! The commands that talk to a broker, from outside: the real binary against a real `bateau dev`.
//!
//! ```text
//!   Node::start ──► bateau dev (ports 0) ──► ready line ──► BATEAU_CONTEXT=dev-PORT
//!   node.run(["topic", "list"]) ──► exit code, stdout, stderr
//! ```
//!
//! Absent on purpose: what the broker does with it, which its own tests say, and the grammar of
//! what people type, which is tested where it is read.

mod administration;
mod certificates;
mod examples;
mod failures;
mod groups;
mod node;
mod nodes;
mod records;
