//! The doors: each turns one wire protocol into what [`Broker`](crate::api::Broker) is asked.
//!
//! ```text
//!   socket ──> listener ──> session (sans-IO) ──> convert ──> Broker
//! ```
//!
//! Absent on purpose: any rule. A door may translate; it may not decide. The native door
//! comes later.

pub mod codes;
pub mod http;
pub mod kafka;
mod sockets;
