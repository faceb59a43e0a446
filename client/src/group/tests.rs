//! Assignments that are right by hand, and rules that hold for any input. That they equal those of
//! the real clients is asserted in `tests/kafka_clients`.
