//! Whether a static member that came back subscribes to what it subscribed to before.
//!
//! Metadata is opaque, with this one exception: the metadata of `consumer` groups begins with a
//! version and a list of topics, and what follows (owned partitions, an assignor's own data)
//! changes with every restart. Comparing whole blobs would make each restart of a static member
//! a rebalance; comparing nothing, as Kafka does, would hide a new topic until the next one.
//!
//! Administration asks for the same topics, to say how far a group is behind that has committed
//! nothing yet.
//!
//! Absent on purpose: any further reading of the metadata.

use std::collections::BTreeSet;

/// True if both ask for the same, as far as an assignment depends on it.
pub(super) fn is_unchanged(protocol_type: &str, before: &[u8], after: &[u8]) -> bool {
    if before == after {
        return true;
    }
    if protocol_type != "consumer" {
        return false;
    }
    match (topics(before), topics(after)) {
        (Some(before), Some(after)) => before == after,
        _ => false,
    }
}

/// The topics of a consumer's subscription; `None` if it is not one.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<&[u8]>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (topic, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        topics.insert(topic);
        rest = tail;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topics: &[&str], owned: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend_from_slice(&u32::try_from(topics.len()).unwrap().to_be_bytes());
        for topic in topics {
            bytes.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(topic.as_bytes());
        }
        bytes.extend_from_slice(owned);
        bytes
    }

    #[test]
    fn owned_partitions_do_not_make_a_subscription_another() {
        let before = subscription(&["a", "b"], b"owns 1 and 2");
        let after = subscription(&["b", "a"], b"");
        assert!(is_unchanged("consumer", &before, &after));
        assert!(!is_unchanged("connect", &before, &after));
    }

    #[test]
    fn a_new_topic_makes_a_subscription_another() {
        let before = subscription(&["a"], b"");
        assert!(!is_unchanged("consumer", &before, &subscription(&["a", "b"], b"")));
    }

    #[test]
    fn metadata_that_is_no_subscription_is_compared_whole() {
        assert!(!is_unchanged("consumer", b"x", b"y"));
        assert!(is_unchanged("consumer", b"x", b"x"));
        assert!(!is_unchanged(
            "consumer",
            &[0, 1, 255, 255, 255, 255],
            &[0, 1, 255, 255, 255, 254]
        ));
    }
}
