//! A network of a test's own, in which port 9092 of localhost is free, and mounts of its own.
//!
//! ```text
//!   #[test] fn x --> namespace::enter("x")
//!       outside: unshare --net ... this executable --exact x   (child; its result is ours)
//!       inside:  returns true, and the test body runs
//! ```
//!
//! Root gets a network namespace right away; anybody else gets a user namespace around it,
//! where the system allows it. Where neither works the test is skipped loudly, or fails when
//! `CI=true`.
//!
//! # Invariants
//!
//! - The body runs exactly once, inside; its failure is the failure of the test outside.
//! - All processes started inside live in a PID namespace too, so none outlives the body.
//! - What is mounted inside is seen by nobody else and goes with the last process.
//!
//! # Absent on purpose
//!
//! A way out: nothing inside can reach a registry. Whatever must be built or installed is built
//! and installed before [`enter`].

use std::env;
use std::process::{Command, ExitCode, Stdio};

use crate::broker;
use crate::runtimes;

const INSIDE_VARIABLE: &str = "BATEAU_TEST_NAMESPACE";

/// What every body finds.
const LOOPBACK: &str = "ip link set lo up";

/// What a body finds that makes networks. A process in one of them has mounts of its own, which
/// follow those out here: what is unmounted is unmounted for all.
const NETWORKS: &str = "mount --make-rshared / && ip link set lo up && mount -t proc proc /proc \
    && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns";

/// Tries it, and whether links between networks can be made.
const NETWORKS_PROBE: &str = "ip link set lo up && mount -t proc proc /proc \
    && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add probe \
    && ip link add bridge0 type bridge && ip link add veth0 type veth peer name veth1 netns probe";

/// Returns true inside the namespace, where the caller then runs the test's body. Outside, runs
/// the test `name` inside and returns false once it has passed or was skipped.
///
/// Panics when the test failed inside.
pub fn enter(name: &str) -> bool {
    enter_with(name, &[], "ip link set lo up", LOOPBACK)
}

/// The same with mounts of its own, and only where a tmpfs can be mounted ([`crate::tmpfs`]).
pub fn enter_to_mount(name: &str) -> bool {
    enter_with(name, &["--mount"], "ip link set lo up && mount -t tmpfs tmpfs /tmp", LOOPBACK)
}

/// The same for a test that makes networks below its own: with mounts, with a `/proc` of its own
/// processes, and with names for networks that nobody else sees.
pub fn enter_to_network(name: &str) -> bool {
    enter_with(name, &["--mount"], NETWORKS_PROBE, NETWORKS)
}

/// As [`enter_to_network`] for a whole program, which runs again inside with the same arguments.
/// Returns `None` inside, and outside how that run ended.
pub fn enter_program() -> Option<ExitCode> {
    if env::var_os(INSIDE_VARIABLE).is_some() {
        end_with_the_outside();
        return None;
    }
    let Some(mut command) = unshare(&["--mount"], NETWORKS_PROBE) else {
        eprintln!("neither root nor user namespaces, or no unshare, ip and mount here");
        return Some(ExitCode::FAILURE);
    };
    let program = env::current_exe().expect("a process knows its own executable");
    command.args(["sh", "-c", &format!("{NETWORKS} && exec \"$0\" \"$@\"")]);
    command.arg(program).args(env::args_os().skip(1)).env(INSIDE_VARIABLE, "program");
    command.env(broker::BINARY_VARIABLE, broker::binary()).stdin(Stdio::piped());
    let mut child = command.spawn().expect("unshare was there a moment ago");
    let stdin = child.stdin.take();
    let status = child.wait().expect("a child can be waited for");
    drop(stdin);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// - `probe`: a shell command that says by its success whether the body can do what it wants.
/// - `setup`: the one that runs before the body.
fn enter_with(name: &str, namespaces: &[&str], probe: &str, setup: &str) -> bool {
    if env::var_os(INSIDE_VARIABLE).is_some() {
        end_with_the_outside();
        return true;
    }
    let Some(mut command) = unshare(namespaces, probe) else {
        runtimes::skip(name, "neither root nor user namespaces, or no unshare, ip and mount here");
        return false;
    };
    let test = env::current_exe().expect("a process knows its own executable");
    command.args(["sh", "-c", &format!("{setup} && exec \"$0\" \"$@\"")]);
    command.arg(test).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(INSIDE_VARIABLE, name).env(broker::BINARY_VARIABLE, broker::binary());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("unshare was there a moment ago");
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("a child can be waited for");
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout);
    // A name that matches no test would pass without having run anything.
    let ran = text.contains("1 passed");
    if !output.status.success() || !ran {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{name} failed in its network namespace:\n{text}\n{errors}");
    }
    print!("{text}");
    false
}

/// The first process of a PID namespace gets no signal from a terminal: it ends when the pipe
/// from its parent does, and everything inside with it.
fn end_with_the_outside() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// `unshare` with the fewest privileges that work here, or `None`.
fn unshare(namespaces: &[&str], probe: &str) -> Option<Command> {
    const COMMON: [&str; 4] = ["--net", "--pid", "--fork", "--kill-child"];
    for privileges in [&[][..], &["--user", "--map-root-user"][..]] {
        let make = || {
            let mut command = Command::new("unshare");
            command.args(privileges).args(COMMON).args(namespaces);
            command
        };
        let mut attempt = make();
        attempt.args(["sh", "-c", probe]);
        attempt.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if attempt.status().is_ok_and(|status| status.success()) {
            return Some(make());
        }
    }
    None
}
