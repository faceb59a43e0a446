//! Node.js, Python, Go and Java: found or skipped, and their pinned packages installed once.
//!
//! ```text
//!   node()   --> npm ci                        --> target/kafka_clients/kafkajs
//!   python() --> python3 -m venv, pip install  --> target/kafka_clients/venv, kafka_python_3
//!   go()     --> go build                      --> target/kafka_clients/go/kafka_clients
//!   java()   --> mvn dependency:copy-..., javac --> target/kafka_clients/java, java-parts, …
//! ```
//!
//! # Invariants
//!
//! - An installation is redone when the content of its lock files or sources changes, and not
//!   otherwise. Its stamp is written last, so an interrupted one is not taken for a whole one.
//! - Two test processes do not install into one directory at once.
//! - A missing runtime is a loud skip, and a failure with `CI=true`. A runtime that is there
//!   but fails to install its packages is always a failure.
//!
//! # Absent on purpose
//!
//! Registry addresses: each client asks the registry that its user has configured.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::broker::target_directory;

/// Says loudly that a test did not run, or fails where that is not acceptable.
///
/// Panics with `CI=true`.
pub fn skip(test: &str, reason: &str) {
    let strict = env::var("CI").is_ok_and(|value| value == "true");
    assert!(!strict, "{test}: cannot run: {reason}");
    // The test harness shows no output of a passed test; the terminal itself does.
    let message = format!("\n*** SKIPPED {test}: {reason} ***\n");
    let terminal = fs::OpenOptions::new().append(true).open("/dev/stderr");
    match terminal {
        Ok(mut terminal) => drop(std::io::Write::write_all(&mut terminal, message.as_bytes())),
        Err(_) => eprintln!("{message}"),
    }
}

/// A client program in one of the languages, ready to run.
#[derive(Clone, Debug)]
pub struct Installed {
    program: PathBuf,
    arguments: Vec<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
    directory: PathBuf,
}

impl Installed {
    /// A command that runs the program; the caller adds its arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.directory);
        command.envs(self.environment.iter().cloned());
        command
    }
}

/// Every JavaScript program of a folder, by name.
fn programs(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = folder.read_dir().expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    let names = names.map(|name| name.into_string().expect("programs have plain names"));
    let mut programs: Vec<_> = names.filter(|name| name.ends_with(".js")).collect();
    programs.sort();
    programs
}

/// The kafkajs programs: the caller adds the file to run. `None` without Node.js and npm.
pub fn node() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    ONCE.get_or_init(|| {
        (present("node", "--version") && present("npm", "--version")).then(|| {
            let files = ["package.json", "package-lock.json", ".npmrc"];
            let programs = programs("kafkajs");
            let all: Vec<&str> =
                files.into_iter().chain(programs.iter().map(String::as_str)).collect();
            let directory = install("kafkajs", "kafkajs", &all, |source, target| {
                for file in &all {
                    copy(&source.join(file), &target.join(file));
                }
                let mut npm = Command::new("npm");
                run(npm.args(["ci", "--silent"]).current_dir(target));
            });
            Installed {
                program: "node".into(),
                arguments: Vec::new(),
                environment: Vec::new(),
                directory,
            }
        })
    })
    .clone()
}

/// The Python clients: the caller adds the client's name. `None` without Python 3 with venv.
pub fn python() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    ONCE.get_or_init(|| {
        present("python3", "--version").then(|| {
            let locks = ["requirements.txt", "requirements-kafka-python-3.txt"];
            let venv = install("venv", "python", &locks, |source, target| {
                run(Command::new("python3").args(["-m", "venv"]).arg(target));
                let pip = || {
                    let mut pip = Command::new(target.join("bin/python"));
                    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
                    pip.args(["--disable-pip-version-check", "--requirement"]);
                    pip
                };
                run(pip().arg(source.join(locks[0])));
                // Both generations of kafka-python are one package name, so the younger one
                // lives beside the environment and is put before it where it is wanted.
                let younger = target.join("kafka-python-3");
                run(pip().arg(source.join(locks[1])).arg("--target").arg(younger));
            });
            let source = source_directory().join("python");
            Installed {
                program: venv.join("bin/python"),
                arguments: vec![source.join("main.py")],
                environment: vec![
                    ("KAFKA_PYTHON_3", venv.join("kafka-python-3")),
                    ("PYTHONDONTWRITEBYTECODE", "1".into()),
                ],
                directory: source,
            }
        })
    })
    .clone()
}

/// Another program of the Python clients, in the same environment: the caller adds its arguments.
/// `None` as for [`python`].
pub fn python_file(file: &str) -> Option<Installed> {
    let installed = python()?;
    let arguments = vec![installed.directory.join(file)];
    Some(Installed { arguments, ..installed })
}

/// The Go clients: the caller adds the client's name. `None` without Go.
pub fn go() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    ONCE.get_or_init(|| {
        present("go", "version").then(|| {
            let sources = [
                "go.mod",
                "go.sum",
                "main.go",
                "franz_go.go",
                "sarama.go",
                "kafka_go.go",
                "steady.go",
            ];
            let directory = install("go", "go", &sources, |source, target| {
                let mut go = Command::new("go");
                go.args(["build", "-mod=readonly", "-trimpath", "-o"]);
                run(go.arg(target.join("kafka_clients")).arg(".").current_dir(source));
            });
            Installed {
                program: directory.join("kafka_clients"),
                arguments: Vec::new(),
                environment: Vec::new(),
                directory,
            }
        })
    })
    .clone()
}

/// The Java client. `None` without a JDK and Maven.
pub fn java() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    ONCE.get_or_init(|| has_java().then(|| java_program("java", "pom.xml", "JavaClient"))).clone()
}

/// What computes assignments and hashes with the Java client, newest first: its version, and the
/// program. `None` without a JDK and Maven.
pub fn java_parts() -> Option<Vec<(&'static str, Installed)>> {
    static ONCE: OnceLock<Option<Vec<(&'static str, Installed)>>> = OnceLock::new();
    ONCE.get_or_init(|| {
        has_java().then(|| {
            [("4.3.1", "java-parts", "pom.xml"), ("3.9.1", "java-parts-3", "pom-3.xml")]
                .map(|(version, name, pom)| (version, java_program(name, pom, "Parts")))
                .to_vec()
        })
    })
    .clone()
}

/// What reads record batches with the Java client. `None` without a JDK and Maven.
pub fn java_batches() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    let install = || has_java().then(|| java_program("java-batches", "pom.xml", "Batches"));
    ONCE.get_or_init(install).clone()
}

/// The Java members of groups. `None` without a JDK and Maven.
pub fn java_members() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    let install = || has_java().then(|| java_program("java-members", "pom.xml", "Members"));
    ONCE.get_or_init(install).clone()
}

/// The Java producer that writes on while brokers die. `None` without a JDK and Maven.
pub fn java_steady() -> Option<Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    let install = || has_java().then(|| java_program("java-steady", "pom.xml", "Steady"));
    ONCE.get_or_init(install).clone()
}

fn has_java() -> bool {
    present("javac", "-version") && present("mvn", "--version")
}

/// Installs what `pom` names and compiles `class` with it, into a directory of its own.
fn java_program(name: &str, pom: &str, class: &str) -> Installed {
    let source_file = format!("{class}.java");
    let directory = install(name, "java", &[pom, &source_file], |source, target| {
        let libraries = target.join("libs");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(source.join(pom));
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        run(maven.arg(format!("-DoutputDirectory={}", libraries.display())));
        let mut javac = Command::new("javac");
        javac.args(["--release", "11", "-Xlint:all,-options", "-Werror", "-cp"]);
        javac.arg(libraries.join("*")).arg("-d").arg(target.join("classes"));
        run(javac.arg(source.join(&source_file)));
    });
    let class_path = format!("{0}/classes:{0}/libs/*", directory.display());
    // One small heap and the first compiler alone: these programs live for seconds.
    let flags = ["-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"];
    let mut arguments: Vec<PathBuf> = flags.iter().map(PathBuf::from).collect();
    arguments.extend([class_path.into(), class.into()]);
    Installed { program: "java".into(), arguments, environment: Vec::new(), directory }
}

fn present(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn source_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fills `target/kafka_clients/<name>` by `fill(source, target)` unless its stamp says that the
/// same `inputs` already did, and returns it.
fn install(name: &str, source: &str, inputs: &[&str], fill: impl FnOnce(&Path, &Path)) -> PathBuf {
    let source = source_directory().join(source);
    let root = target_directory().join("kafka_clients");
    let target = root.join(name);
    fs::create_dir_all(&root).expect("the target directory is writable");
    let lock = File::create(root.join(format!("{name}.lock"))).expect("it is writable");
    lock.lock().expect("a file of our own can be locked");
    // The whole content is the stamp: exact, and small, since these are small text files.
    let mut wanted = String::new();
    for input in inputs {
        let path = source.join(input);
        match fs::read_to_string(&path) {
            Ok(text) => wanted.push_str(&format!("== {input}\n{text}\n")),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    let stamp = root.join(format!("{name}.stamp"));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && target.is_dir() {
        return target;
    }
    let _ = fs::remove_file(&stamp);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).expect("the target directory is writable");
    fill(&source, &target);
    fs::write(&stamp, wanted).expect("the target directory is writable");
    target
}

fn copy(from: &Path, to: &Path) {
    if let Err(error) = fs::copy(from, to) {
        panic!("{} to {}: {error}", from.display(), to.display());
    }
}

fn run(command: &mut Command) {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{command:?} failed: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("{command:?}: {error}"),
    }
}
