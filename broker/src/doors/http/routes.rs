//! Which path has which method.
//!
//! Invariants: paths are compared whole, as they came: no decoding, no trailing slash, no `..`.
//!
//! Absent on purpose: parameters in paths. The routes with a topic in them come with the gateway.

use super::answer::Problem;
use hyper::Method;

/// What a route does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Live,
    Ready,
    Startup,
    Test(TestAction),
}

/// What a test may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TestAction {
    SeedTopic,
    Advance,
    FailNext,
    DelayNext,
    DropNextAck,
    Clear,
    Requests,
    Restart,
    Crash,
    Seed,
    Records,
    WaitUntilIdle,
    Pause,
    Resume,
    Kill,
    MoveLeader,
    MoveCoordinator,
    ShuffleLeaders,
    Leader,
    CutLink,
    DelayLink,
    RestoreLink,
}

/// A method and a path.
struct Route {
    /// `GET` or `POST`; who has `GET` has `HEAD`.
    method: Method,
    path: &'static str,
    action: Action,
}

const fn get(path: &'static str, action: Action) -> Route {
    Route { method: Method::GET, path, action }
}

const fn test(method: Method, path: &'static str, action: TestAction) -> Route {
    Route { method, path, action: Action::Test(action) }
}

static ROUTES: &[Route] = &[
    get("/livez", Action::Live),
    get("/readyz", Action::Ready),
    get("/startupz", Action::Startup),
    test(Method::POST, "/test/v1/seed_topic", TestAction::SeedTopic),
    test(Method::POST, "/test/v1/advance", TestAction::Advance),
    test(Method::POST, "/test/v1/fail_next", TestAction::FailNext),
    test(Method::POST, "/test/v1/delay_next", TestAction::DelayNext),
    test(Method::POST, "/test/v1/drop_next_ack", TestAction::DropNextAck),
    test(Method::POST, "/test/v1/clear", TestAction::Clear),
    test(Method::GET, "/test/v1/requests", TestAction::Requests),
    test(Method::POST, "/test/v1/restart", TestAction::Restart),
    test(Method::POST, "/test/v1/crash", TestAction::Crash),
    test(Method::GET, "/test/v1/seed", TestAction::Seed),
    test(Method::GET, "/test/v1/records", TestAction::Records),
    test(Method::POST, "/test/v1/wait_until_idle", TestAction::WaitUntilIdle),
    test(Method::POST, "/test/v1/pause", TestAction::Pause),
    test(Method::POST, "/test/v1/resume", TestAction::Resume),
    test(Method::POST, "/test/v1/kill", TestAction::Kill),
    test(Method::POST, "/test/v1/move_leader", TestAction::MoveLeader),
    test(Method::POST, "/test/v1/move_coordinator", TestAction::MoveCoordinator),
    test(Method::POST, "/test/v1/shuffle_leaders", TestAction::ShuffleLeaders),
    test(Method::GET, "/test/v1/leader", TestAction::Leader),
    test(Method::POST, "/test/v1/cut_link", TestAction::CutLink),
    test(Method::POST, "/test/v1/delay_link", TestAction::DelayLink),
    test(Method::POST, "/test/v1/restore_link", TestAction::RestoreLink),
];

/// Finds what is asked for.
///
/// - `has_test_control`: without it, no route of a test exists.
///
/// Errors: [`Problem::NoRoute`], [`Problem::Method`].
pub(super) fn find(method: &Method, path: &str, has_test_control: bool) -> Result<Action, Problem> {
    let exists = |route: &&Route| {
        route.path == path && (has_test_control || !matches!(route.action, Action::Test(_)))
    };
    let route = ROUTES.iter().find(exists);
    let route = route.ok_or_else(|| Problem::NoRoute { path: path.to_owned() })?;
    let is_head = route.method == Method::GET && *method == Method::HEAD;
    if *method == route.method || is_head {
        return Ok(route.action);
    }
    let allow = if route.method == Method::GET { "GET, HEAD" } else { route.method.as_str() };
    let (path, method, allow) = (path.to_owned(), method.clone(), allow.to_owned());
    Err(Problem::Method { path, method, allow })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_as_it_is_written_and_no_other_way() {
        assert_eq!(find(&Method::GET, "/livez", false), Ok(Action::Live));
        assert_eq!(find(&Method::HEAD, "/livez", false), Ok(Action::Live));
        for path in ["", "/", "/livez/", "//livez", "/Livez", "/%6civez", "/a/../livez", "*"] {
            let found = find(&Method::GET, path, true);
            assert_eq!(found, Err(Problem::NoRoute { path: path.to_owned() }));
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let allow = |method: Method, path| match find(&method, path, true) {
            Err(Problem::Method { allow, .. }) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allow(Method::POST, "/readyz"), "GET, HEAD");
        assert_eq!(allow(Method::GET, "/test/v1/advance"), "POST");
        assert_eq!(allow(Method::OPTIONS, "/livez"), "GET, HEAD");
    }

    #[test]
    fn without_test_control_nothing_of_it_exists() {
        for route in ROUTES {
            let is_test = route.path.starts_with("/test/v1/");
            assert_eq!(matches!(route.action, Action::Test(_)), is_test, "{}", route.path);
            assert_eq!(find(&route.method, route.path, false).is_err(), is_test);
            assert_eq!(find(&route.method, route.path, true), Ok(route.action));
        }
    }
}
