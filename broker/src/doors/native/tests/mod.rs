//! The door on a socket, before a whole node, asked by a client that can also misbehave.

mod cluster;
mod connections;
mod hostile;
mod node;
mod nodes;
mod records;
mod subscriptions;
