//! More partitions for a topic: every rule of CreatePartitions (KIP-195).
//!
//! New partitions are numbered on from those that are there and placed as if the topic had been
//! created with all of them, so that its leaders stay spread. What was written stays where it is:
//! from then on a key may go to another partition than before, as with Kafka.
//!
//! Absent on purpose: assignments by the client, and taking partitions away.

use super::command::MetadataCommand;
use super::decide::Draft;
use super::metadata::CommandOutcome;
use super::placement::{Candidate, place};
use super::request::{CreatePartitions, CreatePartitionsError, GrownTopic, LimitError};

impl Draft<'_> {
    pub(super) fn create_partitions(
        &mut self,
        request: &CreatePartitions,
    ) -> Result<GrownTopic, CreatePartitionsError> {
        let topic = self.ahead.topic(&request.topic).ok_or(CreatePartitionsError::UnknownTopic)?;
        let (topic, current) = (topic.clone(), topic.partition_count());
        let found = request.partition_count;
        let not_more = CreatePartitionsError::NotMore { found, current };
        let wanted = u32::try_from(found).map_err(|_| not_more)?;
        let added = wanted.checked_sub(current).filter(|added| *added > 0).ok_or(not_more)?;
        let mut planner = self.planner();
        planner.check_grown_count(wanted, added)?;
        let candidates: Vec<Candidate> = planner.ahead.candidates().collect();
        let placement = place(&topic.partitions, &candidates, added, topic.replication_factor())
            .ok_or(LimitError::ReplicasPerNode)?;
        let partitions =
            planner.assemble_partitions(placement).ok_or(CreatePartitionsError::NoFreeId)?;
        let grown =
            GrownTopic { id: topic.id, partition_count_before: current, partition_count: wanted };
        if request.validate_only {
            return Ok(grown);
        }
        let command = MetadataCommand::CreatePartitions {
            topic: topic.id,
            partition_count_before: current,
            partitions,
        };
        let outcome = self.submit(command)?;
        assert_eq!(outcome, CommandOutcome::Done, "I-META-5: planned partitions were refused");
        self.partitions_left = self.partitions_left.saturating_sub(added);
        Ok(grown)
    }
}
