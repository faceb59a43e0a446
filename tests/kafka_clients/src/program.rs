//! A child process whose output lines can be waited for.
//!
//! ```text
//!   child stdout --> reader thread --\
//!   child stderr --> reader thread ---+--> Output (lines in order, a condition variable)
//!                                     |
//!   Program::wait_for(condition) <----/   wakes at every line, gives up at its deadline
//! ```
//!
//! # Invariants
//!
//! - The child is killed with -9 and reaped when its [`Program`] is dropped.
//! - Lines carry a number that grows across all programs of this process, so that reports of
//!   several services can be laid on one line of time.
//! - The child's standard input is a pipe that stays open as long as the [`Program`]: a child
//!   that watches it notices the death of a test process that had no time to say goodbye.
//!
//! # Absent on purpose
//!
//! Answers to what a program was told: it says what it does in lines like all others.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::broker::target_directory;

/// How often a condition without a wake-up of its own (an exit, a port) is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Where a broker and its command line keep their user's file of contexts.
const CONFIG_VARIABLE: &str = "BATEAU_CONFIG_DIR";

/// Lines of output that a failed wait prints.
const TAIL_LINES: usize = 40;

/// One line that a child printed on standard output.
#[derive(Clone, Debug)]
pub struct Line {
    /// Grows across all programs of this process.
    pub number: u64,
    /// The text without its line break.
    pub text: String,
    /// The line as JSON, where it is an object.
    pub json: Option<Value>,
}

impl Line {
    /// The string field `event`, by which our programs tell their lines apart.
    pub fn event(&self) -> Option<&str> {
        self.json.as_ref()?.get("event")?.as_str()
    }
}

#[derive(Debug, Default)]
struct Output {
    lines: Vec<Line>,
    errors: Vec<String>,
    open_pipes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().expect("no thread panics while it holds the output")
    }
}

/// A running child process.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    shared: Arc<Shared>,
    status: Option<ExitStatus>,
}

impl Program {
    /// Starts `command` with its output captured. `name` is used in messages.
    ///
    /// Panics when the program cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !command.get_envs().any(|(name, _)| name == CONFIG_VARIABLE) {
            // A broker of a test writes its entry beside the build, and not into its user's file.
            let place = target_directory().join("kafka_clients/config");
            command.env(CONFIG_VARIABLE, place);
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{name}: {command:?} did not start: {error}"),
        };
        let shared = Arc::new(Shared::default());
        shared.lock().open_pipes = 2;
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        read_lines(stdout, Arc::clone(&shared), |output, text| {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let json = serde_json::from_str(&text).ok().filter(Value::is_object);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            output.lines.push(Line { number, text, json });
        });
        read_lines(stderr, Arc::clone(&shared), |output, text| output.errors.push(text));
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, shared, status: None }
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lock().lines.clone()
    }

    /// Waits until `condition` finds what it looks for in the lines so far, and returns it.
    ///
    /// Panics after `timeout`, or when the child closed its output without it; the message has
    /// `what` and the end of the output.
    pub fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        condition: impl FnMut(&[Line]) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        if let Some(found) = self.try_wait_for(timeout, condition) {
            return found;
        }
        let waited = begun.elapsed();
        let why = if waited < timeout { "its output ended" } else { "time is up" };
        panic!("{}: no {what} after {waited:?}: {why}{}", self.name, self.tail())
    }

    /// Like [`Program::wait_for`], but returns `None` where that would panic.
    pub fn try_wait_for<T>(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&[Line]) -> Option<T>,
    ) -> Option<T> {
        self.try_wait(timeout, |output| condition(&output.lines))
    }

    fn try_wait<T>(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&Output) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut output = self.shared.lock();
        loop {
            if let Some(found) = condition(&output) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || output.open_pipes == 0 {
                return None;
            }
            let woken = self.shared.changed.wait_timeout(output, left);
            output = woken.expect("no thread panics while it holds the output").0;
        }
    }

    /// All lines of standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.shared.lock().errors.clone()
    }

    /// Waits until `condition` finds what it looks for in the lines of standard error so far.
    ///
    /// Panics after `timeout`, or when the child closed its output without it.
    pub fn wait_for_error<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        let found = self.try_wait(timeout, |output| condition(&output.errors));
        found.unwrap_or_else(|| panic!("{}: no {what} on stderr{}", self.name, self.tail()))
    }

    /// Waits until `count` lines of the given event have been printed.
    pub fn wait_for_events(&self, event: &str, count: usize, timeout: Duration) {
        self.wait_for(&format!("{count} × {event}"), timeout, |lines| {
            let found = lines.iter().filter(|line| line.event() == Some(event)).count();
            (found >= count).then_some(())
        });
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGSTOP: the process stands still until [`Program::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Writes a line to the child's standard input.
    ///
    /// Panics when the child does not read any more.
    pub fn tell(&self, line: &str) {
        let mut stdin = self.stdin.as_ref().expect("the pipe was not closed");
        if let Err(error) = stdin.write_all(format!("{line}\n").as_bytes()) {
            panic!("{}: not told {line:?}: {error}{}", self.name, self.tail());
        }
    }

    /// Closes the pipe that is the child's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills it with -9 and waits until it is gone.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::KILL);
            self.wait_for_exit(Duration::from_secs(30));
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("a child's process id is a positive number");
        // A child that has ended by itself but was not waited for still has its id.
        kill_process(id, signal).expect("a child that was not reaped can be signalled");
    }

    /// Waits for the end of the process and of its output.
    ///
    /// Panics after `timeout`.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        while self.running() {
            if Instant::now() >= deadline {
                panic!("{}: still running after {timeout:?}{}", self.name, self.tail());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        // A grandchild may hold the pipes open, so this wait ends with the deadline too.
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.try_wait_for::<()>(left.min(Duration::from_secs(5)), |_| None);
        self.status.expect("it does not run")
    }

    /// Whether the process runs; its status is kept when it does not.
    pub fn running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status.is_none()
    }

    /// The end of both outputs, for messages.
    pub fn tail(&self) -> String {
        let output = self.shared.lock();
        let last =
            |lines: Vec<&str>| lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
        let lines = last(output.lines.iter().map(|line| line.text.as_str()).collect());
        let errors = last(output.errors.iter().map(String::as_str).collect());
        format!("\n  its stdout ended:\n    {lines}\n  its stderr ended:\n    {errors}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    shared: Arc<Shared>,
    keep: impl Fn(&mut Output, String) + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(bytes) = line else { break };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            keep(&mut shared.lock(), text);
            shared.changed.notify_all();
        }
        shared.lock().open_pipes -= 1;
        shared.changed.notify_all();
    });
}

/// Looks at `condition` until it holds.
///
/// Panics with `what` after `timeout`.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Program::start("shell", command)
    }

    #[test]
    fn a_line_that_comes_late_ends_the_wait() {
        let program = shell("sleep 0.05; echo '{\"event\":\"late\"}'; exec sleep 60");
        program.wait_for_events("late", 1, Duration::from_secs(20));
    }

    #[test]
    fn a_child_that_ends_without_the_line_ends_the_wait_early() {
        let program = shell("echo other");
        let found = program.try_wait_for(Duration::from_secs(3600), |lines| {
            lines.iter().find(|line| line.event() == Some("wanted")).cloned()
        });
        assert!(found.is_none());
    }

    #[test]
    fn a_child_reads_what_it_is_told() {
        let program = shell("read word && echo \"{\\\"event\\\":\\\"$word\\\"}\"; exec sleep 60");
        program.tell("heard");
        program.wait_for_events("heard", 1, Duration::from_secs(20));
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let program = shell("exec sleep 3600");
        let path = format!("/proc/{}", program.id());
        assert!(std::path::Path::new(&path).exists());
        drop(program);
        assert!(!std::path::Path::new(&path).exists());
    }
}
