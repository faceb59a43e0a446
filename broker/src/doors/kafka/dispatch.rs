//! Which conversion a request goes through, and which part of it runs before the next request.
//!
//! Absent on purpose: rules. Authorization has its place in `Broker`.

use super::session::{Incoming, Reply, RequestNumber};
use super::{controlled, convert};
use crate::api::Broker;
use crate::controls::{Controls, Fate};
use bateau_core::consumer_group::Name;
use bateau_protocol::kafka::{Request, Text};
use std::pin::Pin;
use std::sync::Arc;

/// Host and port of a node, as a client is told them.
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
    /// Record bytes of one Fetch reply, its first batch excepted.
    pub fetch_reply_bytes_max: usize,
}

/// What a conversion knows of the one request that it converts.
#[derive(Clone)]
pub struct Call {
    /// Of the connection.
    pub context: Arc<Context>,
    /// Version of the request, and of its answer.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<Text>,
}

/// A request that has been started.
pub struct Running {
    /// Its place on the connection.
    pub number: RequestNumber,
    /// Whether it may wait for what others do, and so is left when the connection ends.
    pub parks: bool,
    /// Its reply.
    pub reply: Pin<Box<dyn Future<Output = Reply> + Send>>,
}

/// Starts a request. A produce has entered the shard's inbox when this returns; anything else runs
/// while its reply is polled.
pub async fn start(context: &Arc<Context>, incoming: Incoming) -> Running {
    let Incoming { number, version, client_id, request } = incoming;
    let call = Call { context: Arc::clone(context), version, client_id };
    match &context.controls {
        None => serve(call, number, request).await,
        Some(controls) => serve_controlled(controls, call, number, request).await,
    }
}

/// As a test has planned it.
async fn serve_controlled(
    controls: &Arc<Controls>,
    call: Call,
    number: RequestNumber,
    request: Request,
) -> Running {
    let plan = controlled::plan(controls, &call, &request);
    if let Some(code) = plan.refusal {
        let refused = controlled::refused(&call, request, code);
        return Running { number, parks: false, reply: Box::pin(std::future::ready(refused)) };
    }
    let Running { number, parks, reply } = serve(call, number, request).await;
    let reply = Box::pin(async move {
        let reply = reply.await;
        match plan.finish(controlled::is_done(&reply)).await {
            Fate::Sent => reply,
            Fate::Lost => Reply::Close,
        }
    });
    Running { number, parks, reply }
}

async fn serve(call: Call, number: RequestNumber, request: Request) -> Running {
    match request {
        Request::Produce(request) => {
            let submitted = convert::produce::submit(&call, &request).await;
            let reply = Box::pin(submitted.reply());
            Running { number, parks: false, reply }
        }
        request => {
            let parks = matches!(
                request,
                Request::Fetch(_) | Request::JoinGroup(_) | Request::SyncGroup(_)
            );
            let reply = Box::pin(async move { answer(&call, request).await });
            Running { number, parks, reply }
        }
    }
}

async fn answer(call: &Call, request: Request) -> Reply {
    use convert::{cluster, configs, fetch, groups, metadata, offsets, positions, produce};
    use convert::{reassignments, topics};
    Reply::Answer(match request {
        Request::Produce(request) => return produce::submit(call, &request).await.reply().await,
        Request::Fetch(request) => fetch::fetch(call, &request).await.into(),
        Request::ListOffsets(request) => offsets::list(call, request).await.into(),
        Request::Metadata(request) => metadata::metadata(call, request).await.into(),
        Request::OffsetCommit(request) => positions::commit(call, request).await.into(),
        Request::OffsetFetch(request) => positions::fetch(call, request).await.into(),
        Request::FindCoordinator(request) => cluster::find_coordinator(call, request).into(),
        Request::JoinGroup(request) => groups::join(call, request).await.into(),
        Request::Heartbeat(request) => groups::heartbeat(call, &request).await.into(),
        Request::LeaveGroup(request) => groups::leave(call, request).await.into(),
        Request::SyncGroup(request) => groups::sync(call, request).await.into(),
        Request::ApiVersions(request) => cluster::api_versions(call, &request).into(),
        Request::CreateTopics(request) => topics::create(call, request).await.into(),
        Request::DeleteTopics(request) => topics::delete(call, request).await.into(),
        Request::InitProducerId(request) => produce::init_producer_id(call, &request).await.into(),
        Request::OffsetForLeaderEpoch(request) => offsets::epoch_ends(call, request).into(),
        Request::DescribeConfigs(request) => configs::describe(call, request).into(),
        Request::ElectLeaders(request) => reassignments::elect(call, request).await.into(),
        Request::AlterPartitionReassignments(request) => {
            reassignments::alter(call, request).await.into()
        }
        Request::ListPartitionReassignments(request) => reassignments::list(call, request).into(),
        Request::DescribeCluster(request) => cluster::describe(call, &request).into(),
    })
}
