//! A data directory that is open, before anything votes: recovered, and founded or about to be.
//!
//! Invariants: a damaged metadata log stops the start.
//!
//! Absent on purpose: when a cluster is founded, and by whom. That is `Node`'s.

use super::EngineSettings;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::partition::PartitionView;
use crate::peers::{Peers, Transport};
use crate::telemetry;
use bateau_core::clock::Now;
use bateau_core::controller::{BootEpoch, ClusterId, Founder, ListenerAddress, NodeRegistration};
use bateau_core::node::{NodeSettings, PeerBoot, Voter};
use bateau_core::shard::RecoveredLog;
use bateau_log::{
    CommitCycle, DataDir, Disk, Identity, LogReader, OpenError, RecoveryProgress, RecoveryReport,
};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use bateau_protocol::peer::Idempotency;
use bateau_quic::SpkiPin;
use std::sync::Arc;

/// An open data directory.
pub struct Opened {
    pub(super) disk: Arc<dyn Disk>,
    data_dir: DataDir,
    pub(super) settings: EngineSettings,
    pub(super) cycle: CommitCycle,
    pub(super) identity: Identity,
    pub(super) report: RecoveryReport,
    pub(super) views: Vec<PartitionView>,
    pub(super) recovered: Vec<RecoveredLog>,
    pub(super) registration: NodeRegistration,
    /// Who is of the cluster; empty while it is not founded here.
    pub(super) members: Vec<Founder>,
}

impl Opened {
    /// Locks the directory behind `disk` and recovers what is in it.
    ///
    /// - `progress`: says meanwhile how far the recovery is.
    ///
    /// Errors: [`Failure`] with the exit code of its cause; the directory is as it was, apart from
    /// what recovery itself may do.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: EngineSettings,
        progress: &RecoveryProgress,
    ) -> Result<Self, Failure> {
        let data_dir =
            DataDir::lock(Arc::clone(&disk), std::process::id()).map_err(failure_of_open)?;
        let founding_id = settings.entropy.bytes();
        let mut identity = bateau_storage::identity(&data_dir, settings.node_id, founding_id)
            .map_err(failure_of_open)?;
        let others = (&settings.voters[..], settings.entropy.bytes());
        let opened =
            bateau_storage::open(&data_dir, &mut identity, others, settings.data_dir, progress);
        let opened = opened.map_err(failure_of_open)?;
        telemetry::report_lost_votes(&identity);
        let (cycle, mut report) = (opened.cycle, opened.report);
        let (views, recovered) = taken_up(opened.logs, &mut report);
        // Before anything can be refused: what was found is needed most then.
        telemetry::report_recovery(&report);
        refuse_damaged_metadata(&report)?;
        let registration = registration(&settings, &identity, report.boot_epoch);
        let members = bateau_storage::members(&identity);
        Ok(Self {
            disk,
            data_dir,
            settings,
            cycle,
            identity,
            report,
            views,
            recovered,
            registration,
            members,
        })
    }

    /// This node's time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.settings.clock.now()
    }

    /// Registers the key that the native door shows, for clients that know it by its pin.
    pub fn register_native_key(&mut self, pin: SpkiPin) {
        let listeners = &mut self.registration.listeners;
        for listener in listeners.iter_mut().filter(|listener| &*listener.name == "native") {
            listener.pin = Some(*pin.as_bytes());
        }
    }

    /// The node's brain and its links, none of which is dialled yet.
    ///
    /// - `transport`: what the links run over.
    #[must_use]
    pub fn cluster(&self, transport: Transport) -> Cluster {
        let boot = self.registration.boot;
        let (node_id, start_id) = (self.settings.node_id, boot.start_id);
        let settings = NodeSettings {
            node_id,
            founding_id: self.identity.founding_id,
            former_founding_id: self.identity.former,
            boot,
            cluster_id: self.identity.cluster_id.map(ClusterId),
            peer_boots: bateau_storage::peer_boots(&self.report),
            members: self.members.clone(),
            is_founder: bateau_storage::is_founder(&self.identity, &self.recovered),
            voters: self.voters(),
            peers_address: self.peers_address().into(),
        };
        let origin = Idempotency { node_id, start_id, number: 0 };
        Cluster::new(settings, Peers::new(origin, transport))
    }

    /// Whom this node may ask before it is of a cluster.
    pub(super) fn voters(&self) -> Vec<Voter> {
        bateau_storage::known(&self.identity, &self.settings.voters)
    }

    /// Where other nodes reach this one; empty where they do not.
    fn peers_address(&self) -> String {
        let peers = self.registration.listener("peers");
        peers.map_or_else(String::new, ListenerAddress::to_string)
    }

    /// Makes the metadata log of these founders, and stores that the cluster is founded.
    ///
    /// Errors: the disk refuses; nothing is founded then.
    pub fn found(&mut self, founders: Vec<Founder>) -> Result<(), Failure> {
        let made =
            bateau_storage::found(&self.data_dir, &mut self.cycle, &mut self.identity, &founders);
        self.begin(made, founders)
    }

    /// Makes an empty metadata log for this replica, and stores who the members are.
    ///
    /// Errors: the disk refuses; this node is of no cluster then.
    pub fn join(
        &mut self,
        members: Vec<Founder>,
        replica: ReplicaId,
        cluster_id: Option<ClusterId>,
    ) -> Result<(), Failure> {
        let (cycle, identity) = (&mut self.cycle, &mut self.identity);
        let place = (&*members, replica, cluster_id);
        let made = bateau_storage::join(&self.data_dir, cycle, identity, place);
        self.begin(made, members)
    }

    fn begin(
        &mut self,
        made: Result<(RecoveredLog, LogReader), OpenError>,
        members: Vec<Founder>,
    ) -> Result<(), Failure> {
        let (log, reader) = made.map_err(failure_of_open)?;
        self.views.push(PartitionView::new(log.incarnation, reader));
        self.recovered.push(log);
        self.members = members;
        Ok(())
    }

    /// Stores the newest start of a peer.
    ///
    /// Errors: the disk refuses.
    pub fn note_peer(&mut self, node: NodeId, start: PeerBoot) -> Result<(), Failure> {
        let mut work = vec![bateau_storage::note_peer(node, start)];
        let stored = self.cycle.run(&mut work, &mut Vec::new());
        stored.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }
}

/// The views of recovered logs, and the logs as the shard takes them; what turns out to be
/// unreadable goes to the report.
fn taken_up(
    logs: Vec<bateau_log::RecoveredLog>,
    report: &mut RecoveryReport,
) -> (Vec<PartitionView>, Vec<RecoveredLog>) {
    let mut views = Vec::new();
    let mut recovered = Vec::new();
    for log in logs {
        views.push(PartitionView::new(log.incarnation, log.reader.clone()));
        let (log, unreadable) = bateau_storage::recovered(&log);
        report.corrupt.extend(unreadable.map(|range| (log.incarnation, range)));
        recovered.push(log);
    }
    (views, recovered)
}

/// Without its metadata a node knows nothing, so it does not start (decision 24).
fn refuse_damaged_metadata(report: &RecoveryReport) -> Result<(), Failure> {
    let damaged = report.corrupt.iter().find(|(log, _)| *log == Incarnation::METADATA);
    let Some((_, range)) = damaged else { return Ok(()) };
    let (first, last) = (range.first_index, range.last_index);
    let (segment, position) = (range.segment, range.position);
    let (reason, proof) = (&range.reason, &range.proof);
    let message = format!(
        "the metadata partition is damaged from index {first} to {last}, in segment {segment} at \
         byte {position}: {reason}; it was durable by {proof}"
    );
    Err(Failure::new(Exit::Refused, message))
}

fn registration(
    settings: &EngineSettings,
    identity: &Identity,
    boot_epoch: u64,
) -> NodeRegistration {
    NodeRegistration {
        node: settings.node_id,
        directory: identity.founding_id,
        boot: BootEpoch { epoch: boot_epoch, start_id: settings.entropy.number() },
        rack: settings.rack.clone(),
        listeners: settings.listeners.clone(),
    }
}

/// Why a directory is not opened, with its exit code.
pub(crate) fn failure_of_open(error: OpenError) -> Failure {
    let exit = match &error {
        OpenError::Locked { .. } => Exit::NotFoundOrHeld,
        OpenError::OtherNode { .. }
        | OpenError::NewerFormat { .. }
        | OpenError::Corrupt { .. }
        | OpenError::MetaLogLost => Exit::Refused,
        OpenError::Io { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}
