//! A node for development as a child process, and commands that are pointed at it.
//!
//! Invariants: a node is used only after its ready line; every process that was started is gone
//! when its owner is.
//!
//! Absent on purpose: ports that are hoped for.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

/// A command that takes longer hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A running `bateau dev`, its data, its user's contexts and a directory to work in.
pub struct Node {
    child: Child,
    directory: TempDir,
    context: String,
    /// `HOST:PORT` of the native door.
    pub native: String,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further settings, as in `-X topics.auto_create=false`.
    pub fn start_with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::create_dir(directory.path().join("work")).expect("it is empty");
        let data = directory.path().join("data");
        let mut command = bateau(directory.path());
        command.args(["dev", "--exit-on-stdin-close", "--data-dir"]).arg(data);
        command.args(["--kafka", "127.0.0.1:0", "--native", "127.0.0.1:0", "--http", "off"]);
        for setting in settings {
            command.args(["-X", setting]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a ready line comes");
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        let native = ready["native"].as_str().expect("the native door is open").to_owned();
        let port = native.rsplit(':').next().expect("an address has a port");
        Self { child, context: format!("dev-{port}"), directory, native }
    }

    /// Where commands are run.
    pub fn work(&self) -> std::path::PathBuf {
        self.directory.path().join("work")
    }

    /// The node's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The name under which the node is known to its user.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// A program in the working directory that finds the binary and the node.
    pub fn program(&self, program: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_bateau"));
        let binaries = binary.parent().expect("a file is in a directory").to_string_lossy();
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.work());
        command.env("PATH", format!("{binaries}:/usr/local/bin:/usr/bin:/bin"));
        command.env("BATEAU_CONFIG_DIR", self.directory.path().join("config"));
        command.env("BATEAU_CONTEXT", &self.context).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A command that is not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_bateau"));
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments), b"")
    }

    /// Runs a command to its end, with this on stdin.
    pub fn feed(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
        ended(self.command(arguments), stdin.as_ref())
    }

    /// Starts a command that goes on; its stdout is read line by line, its stdin stays open.
    pub fn begin(&self, arguments: &[&str]) -> Going {
        self.begin_in(&self.context, arguments)
    }

    /// The same, with the context under another name.
    pub fn begin_in(&self, context: &str, arguments: &[&str]) -> Going {
        let mut command = self.command(arguments);
        command.env("BATEAU_CONTEXT", context).stdin(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Going { child, stdout: Some(stdout) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, with nothing of this process's environment.
fn bateau(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bateau"));
    command.env_clear().env("BATEAU_CONFIG_DIR", home.join("config")).env("TZ", "UTC");
    command
}

/// Runs `command` to its end, or kills it.
pub fn ended(mut command: Command, stdin: &[u8]) -> Ended {
    if !stdin.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the program can be started");
    let feeder = child.stdin.take().map(|mut pipe| {
        let bytes = stdin.to_vec();
        // A command that stops reading has its reasons.
        std::thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let (done, outcome) = mpsc::channel();
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || read_all(pipes.1.take()));
    std::thread::spawn(move || done.send(read_all(pipes.0.take())));
    let stdout = outcome.recv_timeout(COMMAND_TIMEOUT);
    if stdout.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().expect("it was started");
    let stderr = errors.join().expect("reading does not panic");
    if let Some(feeder) = feeder {
        feeder.join().expect("feeding does not panic");
    }
    let stdout = stdout.unwrap_or_else(|_| panic!("{command:?} hangs; stderr: {stderr}"));
    Ended { code: status.code(), stdout, stderr }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Stdout of a command that ended well and had nothing to complain of.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "stdout: {}", self.stdout);
        &self.stdout
    }

    /// The objects on stdout of a command that ended well.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// One field of each object, as text.
    #[track_caller]
    pub fn column(&self, name: &str) -> Vec<String> {
        let cell = |object: Value| match &object[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.objects().into_iter().map(cell).collect()
    }

    /// Expects an exit code and how the error begins.
    #[track_caller]
    pub fn refused(&self, code: i32, begins: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with(begins), "{self:?}");
    }
}

/// A command that goes on.
pub struct Going {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Going {
    /// The next line of stdout; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("it was not closed");
        stdout.read_line(&mut line).expect("stdout can be read");
        line
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("it is read");
    }

    /// Goes away as `head` does.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        signal(self.child.id(), rustix::process::Signal::INT);
    }

    /// Waits for the end and returns what is left.
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let stderr = self.child.stderr.take();
        let errors = std::thread::spawn(move || read_all(stderr));
        let (done, outcome) = mpsc::channel();
        let rest = self.stdout.take();
        std::thread::spawn(move || done.send(read_all(rest)));
        let stdout = outcome.recv_timeout(COMMAND_TIMEOUT);
        let Ok(stdout) = stdout else {
            let _ = self.child.kill();
            let stderr = errors.join().expect("reading does not panic");
            panic!("the command does not end; stderr: {stderr}");
        };
        // Its stdout may have been closed before: the end of stderr is the end of the process.
        let stderr = errors.join().expect("reading does not panic");
        let status = self.child.wait().expect("it was started");
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this test has started.
pub fn signal(id: u32, signal: rustix::process::Signal) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.expect("a process id"), signal).expect("it runs");
}
