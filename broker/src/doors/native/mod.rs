//! The native door.
mod lanes;
mod outgoing;
mod session;
mod subscription;
