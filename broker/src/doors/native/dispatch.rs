//! Which conversion a request goes through, and the place where a test's controls meet it.
//!
//! Absent on purpose: rules. Authorization has its place in `Broker`.

use super::convert::{admin, cluster, groups, nodes, positions, records};
use super::session::{error, going_away};
use crate::api::{Broker, PendingAck};
use crate::controls::{Api, Controls, Door, Fate, Plan, Subject};
use bateau_core::consumer_group::Name;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{ErrorReply, ProduceRequest, Reply, Request, SubscribeRequest};
use bateau_protocol::wire::{ErrorCode, Text};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// Host and port of this node, as a client is told them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: Text,
    /// Port.
    pub port: i32,
}

/// What conversions know beside the request: one per connection.
#[derive(Clone)]
pub struct Context {
    /// Who is asked.
    pub broker: Broker,
    /// What a test does to requests.
    pub controls: Option<Arc<Controls>>,
    /// What the client is told of this node.
    pub endpoint: Endpoint,
    /// The client's address.
    pub client_host: Name,
    /// Record bytes of one fetch, its first batch excepted.
    pub fetch_bytes_max: usize,
    /// Becomes true when the node stops.
    pub stopping: watch::Receiver<bool>,
}

/// What a conversion knows of the one request that it converts.
#[derive(Clone)]
pub struct Call {
    /// Of the connection.
    pub context: Arc<Context>,
    /// What the client calls itself.
    pub client_name: Text,
}

/// What a request is answered with, or that its answer is lost with the connection.
pub type Answer = Option<Reply>;

/// An answer that is on its way.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A produce that has entered the shard's inbox, or was refused.
pub enum Submitted {
    /// To be polled, in the order of its partition.
    Pending(PendingAck),
    /// As a test has planned it: to be polled the same way.
    Planned(Answering),
}

/// What is to be done with a subscription.
pub enum PlannedSubscription {
    /// It begins.
    Now,
    /// It begins when the plan says so: its answer comes late, and everything behind it.
    Late(Plan),
    /// It is answered with this.
    Refused(ErrorReply),
}

impl Call {
    /// Submits a batch. It has entered the shard's inbox when this returns.
    pub async fn submit(&self, request: ProduceRequest) -> Submitted {
        let Some(controls) = &self.context.controls else {
            return Submitted::Pending(records::submit(self, request).await);
        };
        let plan = self.plan(controls, Api::Produce, self.topic_name(request.topic_id), None);
        if let Some(code) = plan.refusal {
            let refused = Some(Reply::Error(planned(code)));
            return Submitted::Planned(Box::pin(std::future::ready(refused)));
        }
        let ack = records::submit(self, request).await;
        let durability = self.context.broker.node().durability;
        Submitted::Planned(Box::pin(async move {
            let reply = ack.wait().await.map(|outcome| records::acknowledged(outcome, durability));
            finished(plan, reply).await
        }))
    }

    /// Serves a request of a control or bulk stream, other than a subscription.
    pub fn serve(self, request: Request) -> Answering {
        let plan = self.context.controls.as_ref().map(|controls| {
            let (api, topic, group) = self.subject(&request);
            self.plan(controls, api, topic, group)
        });
        Box::pin(async move {
            match plan {
                None => Some(self.answer(request).await),
                Some(Plan { refusal: Some(code), .. }) => Some(Reply::Error(planned(code))),
                Some(plan) => {
                    let reply = Some(self.answer(request).await);
                    finished(plan, reply).await
                }
            }
        })
    }

    /// What a test has planned for a subscription.
    pub fn planned_subscription(&self, request: &SubscribeRequest) -> PlannedSubscription {
        let Some(controls) = &self.context.controls else { return PlannedSubscription::Now };
        let topic = self.topic_name(request.topic_id);
        let plan = self.plan(controls, Api::Subscribe, topic, None);
        match plan.refusal {
            Some(code) => PlannedSubscription::Refused(planned(code)),
            None if plan.is_late() => PlannedSubscription::Late(plan),
            None => PlannedSubscription::Now,
        }
    }

    fn plan(
        &self,
        controls: &Arc<Controls>,
        api: Api,
        topic: Option<String>,
        group: Option<String>,
    ) -> Plan {
        let client = Some(self.client_name.as_str().to_owned()).filter(|name| !name.is_empty());
        controls.before(Door::Native, api, true, Subject { topic, group, client })
    }

    async fn answer(&self, request: Request) -> Reply {
        let parks = matches!(request, Request::Fetch(_) | Request::Join(_) | Request::Sync(_));
        if !parks {
            return self.answer_now(request).await;
        }
        // What waits for others is not waited for when the node stops.
        let mut stopping = self.context.stopping.clone();
        tokio::select! {
            biased;
            reply = self.answer_now(request) => reply,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => Reply::Error(going_away()),
        }
    }

    async fn answer_now(&self, request: Request) -> Reply {
        match request {
            Request::Metadata(request) => Reply::Metadata(cluster::metadata(self, request).await),
            Request::ProducerId(_) => reply(records::producer_id(self).await),
            Request::Status(_) => Reply::Status(cluster::status(self)),
            Request::Fetch(request) => reply(records::fetch(self, &request).await),
            Request::FindOffsets(request) => {
                Reply::FindOffsets(records::find_offsets(self, request).await)
            }
            Request::Coordinator(request) => reply(groups::coordinator(self, &request)),
            Request::Join(request) => reply(groups::join(self, request).await),
            Request::Sync(request) => reply(groups::sync(self, request).await),
            Request::Heartbeat(request) => reply(groups::heartbeat(self, &request).await),
            Request::Leave(request) => reply(groups::leave(self, &request).await),
            Request::Commit(request) => reply(positions::commit(self, request).await),
            Request::Committed(request) => reply(positions::committed(self, request).await),
            Request::ListGroups(_) => reply(groups::list(self).await),
            Request::DescribeGroups(request) => {
                Reply::DescribeGroups(groups::describe(self, request).await)
            }
            Request::DeleteGroups(request) => {
                Reply::DeleteGroups(groups::delete(self, request).await)
            }
            Request::CreateTopics(request) => reply(admin::create(self, request).await),
            Request::DeleteTopics(request) => reply(admin::delete(self, request).await),
            Request::AlterTopic(request) => reply(admin::alter(self, request).await),
            Request::DescribeTopic(request) => reply(admin::describe(self, &request)),
            Request::ListNodes(_) => Reply::ListNodes(nodes::list(self)),
            Request::PermitNode(request) => reply(nodes::permit(self, request).await),
            Request::SetStanding(request) => reply(nodes::set_standing(self, request).await),
            Request::ReassignPartitions(request) => reply(nodes::reassign(self, request).await),
            Request::ListReassignments(_) => Reply::ListReassignments(nodes::reassignments(self)),
            Request::Hello(_)
            | Request::OpenStream(_)
            | Request::Produce(_)
            | Request::Subscribe(_)
            | Request::Watch(_)
            | Request::Unwatch(_)
            | Request::Credit(_)
            | Request::Unsubscribe(_) => {
                let message = format!("{} is not served this way", request.name());
                Reply::Error(error(ErrorCode::INVALID_REQUEST, message))
            }
        }
    }

    fn topic_name(&self, id: TopicId) -> Option<String> {
        let directory = self.context.broker.directory();
        directory.topic_by_id(id).map(|topic| topic.name.to_string())
    }

    /// What a request asks for, in the words of the controls, and the first topic and the group
    /// that it names.
    fn subject(&self, request: &Request) -> (Api, Option<String>, Option<String>) {
        let owned = |text: &Text| Some(text.as_str().to_owned());
        let group = |api, group: &Text| (api, None, owned(group));
        match request {
            Request::Hello(_) => (Api::ApiVersions, None, None),
            Request::OpenStream(_)
            | Request::Watch(_)
            | Request::Unwatch(_)
            | Request::Status(_) => (Api::Status, None, None),
            Request::Metadata(request) => {
                let first = request.topics.as_ref().and_then(|topics| topics.first());
                let name = first.and_then(|topic| match topic.id {
                    TopicId::ZERO => owned(&topic.name),
                    id => self.topic_name(id),
                });
                (Api::Metadata, name, None)
            }
            Request::ProducerId(_) => (Api::InitProducerId, None, None),
            Request::Produce(request) => (Api::Produce, self.topic_name(request.topic_id), None),
            Request::Fetch(request) => (Api::Fetch, self.topic_name(request.topic_id), None),
            Request::Subscribe(request) => {
                (Api::Subscribe, self.topic_name(request.topic_id), None)
            }
            Request::Credit(_) | Request::Unsubscribe(_) => (Api::Subscribe, None, None),
            Request::FindOffsets(request) => {
                let first = request.positions.first();
                let name = first.and_then(|query| self.topic_name(query.topic_id));
                (Api::ListOffsets, name, None)
            }
            Request::Coordinator(request) => group(Api::FindCoordinator, &request.group_id),
            Request::Join(request) => group(Api::JoinGroup, &request.group_id),
            Request::Sync(request) => group(Api::SyncGroup, &request.group_id),
            Request::Heartbeat(request) => group(Api::Heartbeat, &request.group_id),
            Request::Leave(request) => group(Api::LeaveGroup, &request.group_id),
            Request::Commit(request) => {
                let first = request.positions.first();
                let name = first.and_then(|position| self.topic_name(position.topic_id));
                (Api::OffsetCommit, name, owned(&request.group_id))
            }
            Request::Committed(request) => group(Api::OffsetFetch, &request.group_id),
            Request::ListGroups(_) => (Api::ListGroups, None, None),
            Request::DescribeGroups(request) => {
                (Api::DescribeGroups, None, request.group_ids.first().and_then(owned))
            }
            Request::DeleteGroups(request) => {
                (Api::DeleteGroups, None, request.group_ids.first().and_then(owned))
            }
            Request::CreateTopics(request) => {
                let first = request.topics.first();
                (Api::CreateTopics, first.and_then(|topic| owned(&topic.name)), None)
            }
            Request::DeleteTopics(request) => {
                (Api::DeleteTopics, request.names.first().and_then(owned), None)
            }
            Request::AlterTopic(request) => {
                (Api::IncrementalAlterConfigs, owned(&request.name), None)
            }
            Request::DescribeTopic(request) => (Api::DescribeConfigs, owned(&request.name), None),
            Request::ListNodes(_) => (Api::DescribeNodes, None, None),
            Request::PermitNode(_) | Request::SetStanding(_) => (Api::AlterNode, None, None),
            Request::ReassignPartitions(request) => {
                let first = request.partitions.first();
                let name = first.and_then(|one| owned(&one.topic));
                (Api::AlterPartitionReassignments, name, None)
            }
            Request::ListReassignments(_) => (Api::ListPartitionReassignments, None, None),
        }
    }
}

/// The answer of a conversion that may fail as a whole.
fn reply<R: Into<Reply>>(outcome: Result<R, ErrorReply>) -> Reply {
    outcome.map_or_else(Reply::Error, Into::into)
}

/// A refusal that a test has planned.
fn planned(code: ErrorCode) -> ErrorReply {
    error(code, Text::from_static("refused as the test has planned it"))
}

async fn finished(plan: Plan, reply: Answer) -> Answer {
    let is_done = !matches!(reply, Some(Reply::Error(_)));
    match plan.finish(is_done).await {
        Fate::Sent => reply,
        Fate::Lost => None,
    }
}
