//! `bateau ctx list|use|show`: which broker the commands talk to.
//!
//! ```text
//!   --broker  ►  BATEAU_CONTEXT  ►  the file's current context  ►  127.0.0.1:9443
//! ```
//!
//! The file, who writes it and whom it trusts: `bateau_quic::contexts`.
//!
//! Absent on purpose: tokens and passwords. There is no authentication yet.

use super::codes::{CONTEXT_FILE, NO_CONTEXT};
use super::fault::Fault;
use super::output::{Output, Rows};
use bateau_quic::contexts::{Context, Contexts, config_directory};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// Where the local `dev` answers.
const LOCAL: &str = "127.0.0.1:9443";

/// The variable that names a context.
const VARIABLE: &str = "BATEAU_CONTEXT";

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau ctx list
  bateau ctx use dev
  bateau ctx show";

#[derive(Subcommand)]
pub(super) enum ContextCommand {
    /// List the brokers that commands can be pointed at
    List,
    /// Point commands at another broker
    Use {
        /// A name from `bateau ctx list`
        name: String,
    },
    /// Show where commands go now, and why
    Show,
}

pub(super) fn run(command: &ContextCommand, output: Output) -> Result<(), Fault> {
    match command {
        ContextCommand::List => list(output),
        ContextCommand::Use { name } => choose(name),
        ContextCommand::Show => show(output),
    }
}

/// Where a command goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// `HOST:PORT`, with a pin behind it where the context has one.
    pub(super) address: String,
    /// Who said so, for people.
    pub(super) origin: String,
}

impl Target {
    /// The broker that is meant.
    ///
    /// - `flag`: of `--broker`.
    pub(super) fn choose(flag: Option<&str>) -> Result<Self, Fault> {
        if let Some(address) = flag {
            return Ok(Self { address: address.to_owned(), origin: "--broker".to_owned() });
        }
        let variable = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        Self::from_contexts(variable.as_deref(), &contexts()?)
    }

    fn from_contexts(variable: Option<&str>, contexts: &Contexts) -> Result<Self, Fault> {
        let (context, origin) = match variable {
            Some(name) => (Some(found(name, contexts)?), format!("{VARIABLE}={name}")),
            None => match contexts.current() {
                Some(context) => (Some(context), format!("context {}", context.name)),
                None => (None, "default".to_owned()),
            },
        };
        let Some(context) = context else {
            return Ok(Self { address: LOCAL.to_owned(), origin });
        };
        let address = context.native.clone().ok_or_else(|| {
            let cause = "the context has no address of a native door";
            Fault::of(&NO_CONTEXT, &context.name).because(cause)
        })?;
        let pin = context.pin.map(|pin| format!("?pin={pin}")).unwrap_or_default();
        Ok(Self { address: address + &pin, origin })
    }
}

fn found<'a>(name: &str, contexts: &'a Contexts) -> Result<&'a Context, Fault> {
    contexts.get(name).ok_or_else(|| {
        let known: Vec<&str> = contexts.iter().map(|context| context.name.as_str()).collect();
        let fault = Fault::of(&NO_CONTEXT, name);
        match known[..] {
            [] => fault.because("there is none yet; `bateau dev` makes one"),
            _ => fault.because(format!("there are {}", known.join(", "))),
        }
    })
}

fn directory() -> Result<PathBuf, Fault> {
    config_directory().ok_or_else(|| {
        let cause = "there is no place for it: none of BATEAU_CONFIG_DIR, XDG_CONFIG_HOME and \
                     HOME is set";
        Fault::of(&CONTEXT_FILE, "contexts").because(cause)
    })
}

/// The contexts; none for a user without a home.
fn contexts() -> Result<Contexts, Fault> {
    let Some(directory) = config_directory() else { return Ok(Contexts::default()) };
    let broken = |error| Fault::of(&CONTEXT_FILE, directory.display()).because(error);
    Contexts::load(&directory).map_err(broken)
}

fn list(output: Output) -> Result<(), Fault> {
    let contexts = contexts()?;
    let current = contexts.current().map(|context| context.name.clone());
    let mut rows = Rows::new(output, &["CURRENT", "NAME", "NATIVE", "KAFKA", "HTTP"]);
    for context in contexts.iter() {
        let Context { name, native, kafka, http, pin, .. } = context;
        let is_current = current.as_ref() == Some(name);
        let pin = pin.map(|pin| pin.to_string());
        rows.add(
            || {
                json!({
                    "name": name, "current": is_current, "native": native, "kafka": kafka,
                    "http": http, "pin": pin,
                })
            },
            || {
                let mark = if is_current { "*" } else { "" };
                let cell = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
                vec![mark.to_owned(), name.clone(), cell(native), cell(kafka), cell(http)]
            },
        );
    }
    rows.print()
}

fn choose(name: &str) -> Result<(), Fault> {
    let directory = directory()?;
    found(name, &contexts()?)?;
    let changed = Contexts::update(&directory, |contexts| contexts.set_current(name));
    changed.map_err(|error| Fault::of(&CONTEXT_FILE, directory.display()).because(error))
}

fn show(output: Output) -> Result<(), Fault> {
    let Target { address, origin } = Target::choose(None)?;
    let mut rows = Rows::new(output, &["BROKER", "FROM"]);
    rows.add(
        || json!({ "broker": address, "from": origin }),
        || vec![address.clone(), origin.clone()],
    );
    rows.print()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn contexts(current: Option<&str>) -> Contexts {
        let mut contexts = Contexts::default();
        let mut dev = Context::new("dev").unwrap();
        dev.native = Some("127.0.0.1:9444".to_owned());
        contexts.put(dev);
        let mut far = Context::new("far").unwrap();
        far.native = Some("broker:9443".to_owned());
        far.pin = Some(format!("sha256:{}", "0a".repeat(32)).parse().unwrap());
        contexts.put(far);
        contexts.put(Context::new("kafka-only").unwrap());
        if let Some(current) = current {
            contexts.set_current(current);
        }
        contexts
    }

    fn target(variable: Option<&str>, current: Option<&str>) -> Result<(String, String), Exit> {
        let target = Target::from_contexts(variable, &contexts(current));
        target.map(|target| (target.address, target.origin)).map_err(|fault| fault.exit)
    }

    fn at(address: &str, origin: &str) -> Result<(String, String), Exit> {
        Ok((address.to_owned(), origin.to_owned()))
    }

    #[test]
    fn a_flag_wins_over_the_variable_and_the_variable_over_the_file() {
        let flagged = Target::choose(Some("here:1")).unwrap();
        assert_eq!((flagged.address.as_str(), flagged.origin.as_str()), ("here:1", "--broker"));
        let pinned = format!("broker:9443?pin=sha256:{}", "0a".repeat(32));
        assert_eq!(target(Some("far"), Some("dev")), at(&pinned, "BATEAU_CONTEXT=far"));
        assert_eq!(target(None, Some("dev")), at("127.0.0.1:9444", "context dev"));
        assert_eq!(target(None, None), at("127.0.0.1:9443", "default"));
    }

    #[test]
    fn a_context_that_is_not_there_or_has_no_native_door_is_not_found() {
        assert_eq!(target(Some("nowhere"), None), Err(Exit::NotFoundOrHeld));
        assert_eq!(target(Some("kafka-only"), None), Err(Exit::NotFoundOrHeld));
    }
}
