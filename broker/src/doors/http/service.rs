//! One request, from its head to its answer.
//!
//! Invariants: every request gets one answer, or its connection ends; a body is read whole, up to
//! its limit, before anything is done.
//!
//! Absent on purpose: bodies that stream. Records over HTTP will bring them.

use super::answer::{Answer, Problem};
use super::routes::{self, Action, TestAction};
use super::{BODY_BYTES_MAX, BODY_TIME_MAX, REQUEST_TIME_MAX, cluster, control, guard, health};
use crate::node::NodeControl;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response};
use std::net::{IpAddr, SocketAddr};

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub peer: SocketAddr,
    /// Where it came in.
    pub local: IpAddr,
}

/// Answers a request.
pub(super) async fn serve(
    node: &NodeControl,
    ends: Ends,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let answer = tokio::time::timeout(REQUEST_TIME_MAX, answer(node, ends, request)).await;
    let answer = answer.unwrap_or(Err(Problem::TooSlow));
    answer.unwrap_or_else(Answer::from).into_response()
}

async fn answer(
    node: &NodeControl,
    ends: Ends,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    guard::check(ends.local, &head.method, &head.uri, head.version, &head.headers)?;
    let action = routes::find(&head.method, head.uri.path(), node.controls().is_some())?;
    let query = head.uri.query().unwrap_or_default();
    let is_verbose = query.split('&').any(|pair| matches!(pair, "verbose" | "verbose=true"));
    match action {
        Action::Live => Ok(health::live(node, is_verbose).await),
        Action::Ready => Ok(health::ready(node, is_verbose)),
        Action::Startup => Ok(health::startup(node, is_verbose)),
        Action::Test(action) => {
            if !ends.peer.ip().to_canonical().is_loopback() {
                return Err(Problem::Remote);
            }
            let content_type = head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
            let body = read(body, &head.method, content_type).await?;
            test(node, action, query, &body).await
        }
    }
}

/// The whole body. What is not empty says that it is JSON: a page of a stranger cannot say that
/// without asking first.
async fn read(
    body: Incoming,
    method: &Method,
    content_type: Option<&[u8]>,
) -> Result<Bytes, Problem> {
    // What says that it is too long need not be sent.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(Problem::BodyTooLarge);
    }
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    let collected = tokio::time::timeout(BODY_TIME_MAX, collected).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Problem::BodyTooLarge),
        Ok(Err(_)) | Err(_) => return Err(Problem::BodyTooSlow),
    };
    if *method == Method::POST && !bytes.is_empty() {
        let found = String::from_utf8_lossy(content_type.unwrap_or_default());
        let kind = found.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::NotJson { found: found.into_owned() });
        }
    }
    Ok(bytes)
}

async fn test(
    node: &NodeControl,
    action: TestAction,
    query: &str,
    body: &[u8],
) -> Result<Answer, Problem> {
    match action {
        TestAction::SeedTopic => control::seed_topic(node, body).await,
        TestAction::Advance => control::advance(node, body).await,
        TestAction::FailNext => control::fail_next(node, body),
        TestAction::DelayNext => control::delay_next(node, body),
        TestAction::DropNextAck => control::drop_next_ack(node),
        TestAction::Clear => control::clear(node),
        TestAction::Requests => control::requests(node, query),
        TestAction::Restart => cluster::restart(node, body).await,
        TestAction::Crash => cluster::crash(node, body).await,
        TestAction::Seed => Ok(control::seed(node)),
        TestAction::Records => control::records(node, query).await,
        TestAction::WaitUntilIdle => control::wait_until_idle(node).await,
        TestAction::Pause => cluster::pause(node, body).await,
        TestAction::Resume => cluster::resume(node, body),
        TestAction::Kill => cluster::kill(node, body).await,
        TestAction::MoveLeader => cluster::move_leader(node, body).await,
        TestAction::MoveCoordinator => cluster::move_coordinator(node, body).await,
        TestAction::ShuffleLeaders => cluster::shuffle_leaders(node).await,
        TestAction::Leader => cluster::leader(node, query),
        TestAction::CutLink => cluster::cut_link(node, body),
        TestAction::DelayLink => cluster::delay_link(node, body),
        TestAction::RestoreLink => cluster::restore_link(node, body),
    }
}
