//! The door on a socket, before a whole node, asked by a client that can also misbehave.

mod cluster;
mod connections;
mod controlled;
mod groups;
mod node;
mod reassignments;
mod records;
mod tls;
