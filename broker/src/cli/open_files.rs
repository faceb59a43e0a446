//! Raises the limit of open files: the usual soft limit of 1,024 is gone at a few hundred
//! partitions, while the hard limit is the administrator's real word.
//!
//! Absent on purpose: asking for more than the hard limit.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Sets the soft limit to the hard one. A kernel that refuses leaves it as it was.
pub(super) fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?before, now = ?limit.current, "limit of open files raised"),
        Err(error) => tracing::warn!(?before, %error, "the limit of open files stays as it was"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
