//! P11.
use super::Run;

pub(super) fn files(_run: &mut Run) {}
