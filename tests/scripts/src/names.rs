//! Names for what the brain knows by random numbers: logs, members, topics.
//!
//! Absent on purpose: forgetting. A deleted topic keeps its name, and a later one of the same name
//! gets a mark.

use bateau_core::controller::Metadata;
use bateau_protocol::ids::Incarnation;
use std::collections::BTreeMap;

#[derive(Default, Debug)]
pub(crate) struct Names {
    logs: BTreeMap<Incarnation, String>,
    internal: BTreeMap<Incarnation, bool>,
    newest: BTreeMap<String, Incarnation>,
    /// Member id to the name that the script gave.
    members: BTreeMap<String, String>,
}

impl Names {
    pub fn learn(&mut self, metadata: &Metadata) {
        self.note(Incarnation::METADATA, "metadata", true);
        for topic in metadata.topics().chain(metadata.group_topic()) {
            for (number, partition) in topic.partitions.iter().enumerate() {
                let place = if topic.internal {
                    format!("group/{number}")
                } else {
                    format!("{}/{number}", topic.name)
                };
                self.note(partition.incarnation, &place, topic.internal);
            }
        }
    }

    fn note(&mut self, incarnation: Incarnation, place: &str, internal: bool) {
        if self.logs.contains_key(&incarnation) {
            return;
        }
        let is_again = self.newest.insert(place.to_owned(), incarnation).is_some();
        let mark = if is_again { "'" } else { "" };
        self.logs.insert(incarnation, format!("{place}{mark}"));
        self.internal.insert(incarnation, internal);
    }

    /// A log as scripts call it.
    pub fn log(&self, incarnation: Incarnation) -> String {
        let unknown = || format!("log-{:x}", incarnation.get());
        self.logs.get(&incarnation).cloned().unwrap_or_else(unknown)
    }

    pub fn is_internal(&self, incarnation: Incarnation) -> bool {
        self.internal.get(&incarnation).copied().unwrap_or(true)
    }

    /// The newest log of this name.
    pub fn find(&self, name: &str) -> Option<Incarnation> {
        self.newest.get(name).copied()
    }

    pub fn note_member(&mut self, id: &str, name: &str) {
        self.members.insert(id.to_owned(), name.to_owned());
    }

    /// Replaces member ids by the names that the script gave them.
    pub fn with_members(&self, line: &str) -> String {
        self.members.iter().fold(line.to_owned(), |line, (id, name)| line.replace(id, name))
    }
}
