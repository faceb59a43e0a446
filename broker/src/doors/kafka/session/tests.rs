//! Scripts of one connection.
