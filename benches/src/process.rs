//! Children: a broker or a bare loop, from exec to its end.
//!
//! Both print one JSON line on stdout when they are ready, and both end when stdin does, so that
//! nothing survives this process.
//!
//! Absent on purpose: a graceful stop. Data is thrown away afterwards.

use crate::cleanup::{forget_child, remember_child};
use crate::failure::{Failure, Tried};
use crate::native::ends::Door;
use bateau_quic::contexts::Contexts;
use rustix::process::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A child that is not ready after so long has failed.
const READY_WAIT: Duration = Duration::from_secs(60);

/// Any free port.
const ANY: &str = "127.0.0.1:0";

/// What a broker is told besides its directory: any free ports, one JSON line, and an end to it.
const BROKER_ARGUMENTS: &[&str] =
    &["dev", "--kafka", ANY, "--native", ANY, "--http", ANY, "-o", "json", "--exit-on-stdin-close"];

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Owned,
    _stdout: ChildStdout,
    /// Where it listens: the Kafka door of a broker, the only door of a bare loop.
    pub address: SocketAddr,
    native_address: Option<SocketAddr>,
    /// Where it speaks the native protocol, if it does.
    pub native: Option<Door>,
    /// When it was about to be started.
    pub started: Instant,
    /// From just before exec until its ready line had been read.
    pub ready: Duration,
    /// What its ready line says that it took.
    pub ready_ms: u64,
}

impl Running {
    /// Starts a broker and waits until it is ready.
    ///
    /// # Errors
    /// It ended or stayed silent instead; its last words are given.
    pub fn broker(binary: &Path, data: &Path) -> Result<Self, Failure> {
        let data_dir = data.to_string_lossy();
        Self::broker_with(binary, data, &["--data-dir", &data_dir])
    }

    /// Starts a broker with other arguments than a data directory, and waits until it is ready.
    ///
    /// - `place`: what lies beside it begins with this path.
    ///
    /// # Errors
    /// As [`Running::broker`].
    pub fn broker_with(binary: &Path, place: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command.args(BROKER_ARGUMENTS).args(arguments);
        forget_settings(&mut command);
        // Where it writes the pin of its key, which is nobody else's business.
        let config = place.with_extension("config");
        command.env("BATEAU_CONFIG_DIR", &config);
        let mut running = Self::start(command, &place.with_extension("log"))?;
        if let Some(native) = running.native_address {
            let contexts = Contexts::load(&config);
            let contexts = contexts.map_err(|error| Failure::quic("pin of the broker", error))?;
            let pin = contexts.loopback_pin(native);
            running.native = pin.map(|pin| Door { address: native, pin });
        }
        Ok(running)
    }

    /// Starts a node of a cluster. It is ready once the others are there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn node(binary: &Path, file: &Path) -> Result<Starting, Failure> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("-o").arg("json").arg("--config").arg(file);
        forget_settings(&mut command);
        Starting::begin(command, &file.with_extension("log"))
    }

    /// Starts one of our own bare loops; see the hidden commands of the programs.
    ///
    /// # Errors
    /// As [`Running::broker`].
    pub fn bare_loop(arguments: &[&str], log: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(own_program()?);
        command.args(arguments);
        Self::start(command, log)
    }

    fn start(command: Command, log: &Path) -> Result<Self, Failure> {
        Starting::begin(command, log)?.until_ready()
    }

    fn of(starting: Starting) -> Result<Self, Failure> {
        let Starting { mut child, name, log, started } = starting;
        let stdout = child.0.stdout.take();
        let found = stdout.map(|stdout| ready_line(stdout, &mut child.0));
        let ready = started.elapsed();
        let found = found.and_then(|(line, stdout)| Some((line?, stdout)));
        if let Some((line, stdout)) = found
            && let Some(line) = parse_ready(&line)
        {
            let ReadyLine { address, native_address, native, ready_ms } = line;
            let _stdout = stdout;
            let running =
                Self { child, _stdout, address, native_address, native, started, ready, ready_ms };
            return Ok(running);
        }
        drop(child);
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().rev().take(5).collect::<Vec<_>>();
        let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        Err(Failure::Process { what: format!("{name} did not become ready"), said })
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Asks it to end, by the end of its stdin, and waits until it has: what it made goes too.
    ///
    /// # Errors
    /// It failed.
    pub fn stop(mut self) -> Result<(), Failure> {
        drop(self.child.0.stdin.take());
        // Until it is reaped its id is its own; forgotten first, it is never killed by mistake.
        if let Some(pid) = pid(&self.child.0) {
            forget_child(pid);
        }
        let status = self.child.0.wait().tried(|| "waiting for a broker".to_owned())?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Process { what: "stopping a broker".to_owned(), said: status.to_string() })
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }
}

/// A child that has been started.
#[derive(Debug)]
pub struct Starting {
    child: Owned,
    name: String,
    log: PathBuf,
    started: Instant,
}

impl Starting {
    fn begin(mut command: Command, log: &Path) -> Result<Self, Failure> {
        let stderr = File::create(log).tried(|| log.display().to_string())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let name = command.get_program().to_string_lossy().into_owned();
        let started = Instant::now();
        let child = command.spawn().tried(|| name.clone())?;
        if let Some(pid) = pid(&child) {
            remember_child(pid);
        }
        Ok(Self { child: Owned(child), name, log: log.to_owned(), started })
    }

    /// Waits until it has said that it is ready.
    ///
    /// # Errors
    /// It ended or stayed silent instead; its last words are given.
    pub fn until_ready(self) -> Result<Running, Failure> {
        Running::of(self)
    }
}

/// Settings of whoever runs this would be in no row's contract.
fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BATEAU_") {
            command.env_remove(name);
        }
    }
}

/// A child that ends with its owner.
#[derive(Debug)]
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Runs one of the hidden commands that measure by themselves, of this program or of another
/// build of it, and gives what it prints: one JSON value.
///
/// # Errors
/// It failed, or printed something else.
pub fn told_by_child(program: &Path, arguments: &[&str]) -> Result<serde_json::Value, Failure> {
    let what = || format!("{} {}", program.display(), arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().tried(what)?;
    // It ends with its stdin, which waiting for it would close, and which ends with us.
    let stdin = child.stdin.take();
    let output = child.wait_with_output();
    drop(stdin);
    let output = output.tried(what)?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(Failure::Process { what: what(), said });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Process { what: what(), said: format!("{error}; {said}") })
}

/// The path of this program.
///
/// # Errors
/// The system does not know.
pub fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().tried(|| "path of this program".to_owned())
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    // Until it is reaped its id is its own; forgotten first, it is never killed by mistake.
    if let Some(pid) = pid(child) {
        forget_child(pid);
    }
    let _ = child.wait();
}

/// The first line of stdout, unless it does not come in time; stdout is given back, because a
/// closed pipe would be another world for the child.
fn ready_line(stdout: ChildStdout, child: &mut Child) -> (Option<String>, ChildStdout) {
    let (tell, told) = mpsc::channel();
    let mut reader = BufReader::new(stdout);
    let reading = std::thread::spawn(move || {
        let mut line = String::new();
        let read = reader.read_line(&mut line);
        let _ = tell.send(read.is_ok().then_some(line));
        reader.into_inner()
    });
    let line = told.recv_timeout(READY_WAIT).ok().flatten();
    if line.is_none() {
        // Its end is the end of stdout, which the thread waits for.
        let _ = child.kill();
    }
    (line, reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// What a ready line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ReadyLine {
    address: SocketAddr,
    native_address: Option<SocketAddr>,
    /// Where the line has the pin too: a bare loop has no file for it.
    native: Option<Door>,
    ready_ms: u64,
}

fn parse_ready(line: &str) -> Option<ReadyLine> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if !line.get("ready")?.as_bool()? {
        return None;
    }
    let text = |key| line.get(key).and_then(serde_json::Value::as_str);
    let native_address: Option<SocketAddr> = text("native").and_then(|text| text.parse().ok());
    let address = match text("kafka") {
        Some(kafka) => kafka.parse().ok()?,
        None => native_address?,
    };
    let pin = text("pin").and_then(|text| text.parse().ok());
    let native = native_address.zip(pin).map(|(address, pin)| Door { address, pin });
    let ready_ms = line.get("ready_ms")?.as_u64()?;
    Some(ReadyLine { address, native_address, native, ready_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_says_where_and_how_fast() {
        let line = r#"{"ready":true,"version":"1","kafka":"127.0.0.1:5","ready_ms":17}"#;
        let ready = parse_ready(line).unwrap();
        assert_eq!((ready.address, ready.ready_ms), ("127.0.0.1:5".parse().unwrap(), 17));
        assert_eq!((ready.native_address, ready.native), (None, None));
        for other in ["", "{}", r#"{"ready":false,"kafka":"127.0.0.1:5","ready_ms":1}"#] {
            assert_eq!(parse_ready(other), None, "{other}");
        }
    }

    #[test]
    fn a_bare_loop_says_its_key_and_a_broker_leaves_it_to_its_file() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let line = format!(r#"{{"ready":true,"native":"127.0.0.1:7","pin":"{pin}","ready_ms":0}}"#);
        let ready = parse_ready(&line).unwrap();
        let address = "127.0.0.1:7".parse().unwrap();
        assert_eq!(ready.native, Some(Door { address, pin: pin.parse().unwrap() }));
        let line = r#"{"ready":true,"kafka":"127.0.0.1:5","native":"127.0.0.1:7","ready_ms":1}"#;
        let ready = parse_ready(line).unwrap();
        assert_eq!((ready.native_address, ready.native), (Some(address), None));
    }

    #[test]
    fn a_child_that_ends_instead_is_reported_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck today >&2; exit 3"]);
        let error = Running::start(command, &directory.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("no luck today"), "{error}");
    }

    #[test]
    fn a_child_is_gone_when_its_owner_is() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let script = r#"echo '{"ready":true,"kafka":"127.0.0.1:5","ready_ms":1}'; read line"#;
        command.args(["-c", script]);
        let running = Running::start(command, &directory.path().join("log")).unwrap();
        let place = format!("/proc/{}", running.pid());
        assert!(Path::new(&place).exists());
        running.kill();
        assert!(!Path::new(&place).exists());
    }
}
