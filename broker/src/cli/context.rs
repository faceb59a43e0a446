//! `bateau ctx list|use|show|set|delete`, `bateau ctx -`: which broker the commands talk to.
//!
//! ```text
//!   --broker  ►  BATEAU_CONTEXT  ►  the file's current context  ►  127.0.0.1:9443
//! ```
//!
//! The file, who writes it and whom it trusts: `bateau_quic::contexts`.
//!
//! Absent on purpose: tokens and passwords. There is no authentication yet.

use super::codes::{CONTEXT_FILE, NO_CONTEXT, OWN_CERTIFICATE};
use super::confirm::Asking;
use super::fault::Fault;
use super::output::{Output, Rows};
use bateau_quic::SpkiPin;
use bateau_quic::contexts::{Context, Contexts, config_directory};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Where the local `dev` answers.
const LOCAL: &str = "127.0.0.1:9443";

/// The variable that names a context.
const VARIABLE: &str = "BATEAU_CONTEXT";

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau ctx list
  bateau ctx set prod --native broker-1.example:9443 --ca authority.crt
  bateau ctx use dev
  bateau ctx use prod
  bateau ctx -                         # back to the one before
  bateau ctx show
  bateau ctx delete prod --yes";

#[derive(Subcommand)]
pub(super) enum ContextCommand {
    /// List the brokers that commands can be pointed at
    List,
    /// Point commands at another broker
    Use {
        /// A name from `bateau ctx list`
        name: String,
    },
    /// Point commands at the broker before this one again
    #[command(name = "-")]
    Previous,
    /// Show where commands go now, and why
    Show,
    /// Make a context, or change what the flags name; an empty value takes an entry away
    Set(Box<SetArguments>),
    /// Forget a context
    Delete {
        /// A name from `bateau ctx list`
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Say what would happen and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(super) struct SetArguments {
    /// Up to 64 letters, digits, dashes and underscores
    name: String,
    /// Address of the native door
    #[arg(long, value_name = "HOST:PORT")]
    native: Option<String>,
    /// Address of the Kafka door
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Address of the HTTP door
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The key that the native door must show, as in sha256:…
    #[arg(long)]
    pin: Option<String>,
    /// Authorities that may vouch for the broker, in PEM, where no pin names its key
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// The certificate to show to a broker that demands one, in PEM
    #[arg(long, value_name = "FILE")]
    client_cert: Option<String>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    client_key: Option<String>,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(command: &ContextCommand, output: Output) -> Result<(), Fault> {
    match command {
        ContextCommand::List => list(output),
        ContextCommand::Use { name } => choose(name),
        ContextCommand::Previous => previous(output),
        ContextCommand::Show => show(output),
        ContextCommand::Set(arguments) => set(arguments, output),
        ContextCommand::Delete { name, yes, dry_run } => {
            found(name, &contexts()?)?;
            Asking::new(*yes || *dry_run).confirm("delete", name)?;
            match dry_run {
                true => Ok(()),
                false => update(|contexts| {
                    contexts.remove(name);
                }),
            }
        }
    }
}

/// Where a command goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// `HOST:PORT`, with a pin behind it where the context has one.
    pub(super) address: String,
    /// Who said so, for people.
    pub(super) origin: String,
    /// File of the authorities that may vouch for it.
    pub(super) ca: Option<PathBuf>,
    /// Files of the certificate and the key that are shown to it.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// The broker that is meant.
    ///
    /// - `flag`: of `--broker`.
    pub(super) fn choose(flag: Option<&str>) -> Result<Self, Fault> {
        if let Some(address) = flag {
            return Ok(Self::plain(address, "--broker".to_owned()));
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
            return Ok(Self::plain(LOCAL, origin));
        };
        let address = context.native.clone().ok_or_else(|| {
            let cause = "the context has no address of a native door";
            Fault::of(&NO_CONTEXT, &context.name).because(cause)
        })?;
        let pin = context.pin.map(|pin| format!("?pin={pin}")).unwrap_or_default();
        // A relative path begins at the file that has it; joining leaves absolute ones alone.
        let base = config_directory().unwrap_or_default();
        let file = |path: &Option<String>| path.as_ref().map(|path| base.join(path));
        let (certificate, key) = (file(&context.certificate), file(&context.key));
        if certificate.is_some() != key.is_some() {
            let cause = "the context has one of `certificate` and `key`; it needs both or none";
            return Err(Fault::of(&OWN_CERTIFICATE, &context.name).because(cause));
        }
        let (ca, identity) = (file(&context.ca), certificate.zip(key));
        Ok(Self { address: address + &pin, origin, ca, identity })
    }

    fn plain(address: &str, origin: String) -> Self {
        Self { address: address.to_owned(), origin, ca: None, identity: None }
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
    let mut rows = Rows::new(output, COLUMNS);
    for context in contexts.iter() {
        add_row(&mut rows, context, current.as_ref() == Some(&context.name));
    }
    rows.print()
}

const COLUMNS: &[&str] = &["CURRENT", "NAME", "NATIVE", "KAFKA", "HTTP"];

fn add_row(rows: &mut Rows, context: &Context, is_current: bool) {
    let Context { name, native, kafka, http, pin, ca, certificate, key, .. } = context;
    let pin = pin.map(|pin| pin.to_string());
    rows.add(
        || {
            json!({
                "name": name, "current": is_current, "native": native, "kafka": kafka,
                "http": http, "pin": pin, "ca": ca, "certificate": certificate, "key": key,
            })
        },
        || {
            let mark = if is_current { "*" } else { "" };
            let cell = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
            vec![mark.to_owned(), name.clone(), cell(native), cell(kafka), cell(http)]
        },
    );
}

fn update(change: impl FnOnce(&mut Contexts)) -> Result<(), Fault> {
    let directory = directory()?;
    let changed = Contexts::update(&directory, change);
    changed.map_err(|error| Fault::of(&CONTEXT_FILE, directory.display()).because(error))
}

fn choose(name: &str) -> Result<(), Fault> {
    found(name, &contexts()?)?;
    update(|contexts| contexts.set_current(name))
}

fn previous(output: Output) -> Result<(), Fault> {
    let contexts = contexts()?;
    let Some(context) = contexts.previous() else {
        let cause = "none was used before this one, or it is gone";
        return Err(Fault::of(&NO_CONTEXT, "-").because(cause));
    };
    let name = context.name.clone();
    update(|contexts| contexts.set_current(&name))?;
    let mut rows = Rows::new(output, &["CURRENT"]);
    rows.add(|| json!({ "current": name }), || vec![name.clone()]);
    rows.print()
}

fn set(arguments: &SetArguments, output: Output) -> Result<(), Fault> {
    let SetArguments { name, native, kafka, http, pin, ca, client_cert, client_key, dry_run } =
        arguments;
    let mut context = match contexts()?.get(name) {
        Some(known) => known.clone(),
        None => Context::new(name).map_err(|error| Fault::usage(error.to_string()))?,
    };
    for (flag, place) in
        [(native, &mut context.native), (kafka, &mut context.kafka), (http, &mut context.http)]
    {
        assign(place, flag.clone());
    }
    for (flag, place) in [
        (ca, &mut context.ca),
        (client_cert, &mut context.certificate),
        (client_key, &mut context.key),
    ] {
        // The file of contexts is elsewhere: what is written there must mean the same.
        assign(place, flag.as_deref().map(absolute).transpose()?);
    }
    match pin.as_deref() {
        None => {}
        Some("") => context.pin = None,
        Some(text) => {
            let pin = text.parse::<SpkiPin>();
            context.pin = Some(pin.map_err(|error| Fault::usage(format!("--pin: {error}")))?);
        }
    }
    if context.certificate.is_some() != context.key.is_some() {
        return Err(Fault::usage(
            "a certificate needs its key: give --client-cert and --client-key",
        ));
    }
    let mut rows = Rows::new(output, COLUMNS);
    add_row(&mut rows, &context, false);
    if !dry_run {
        update(|contexts| contexts.put(context))?;
    }
    rows.print()
}

fn assign(place: &mut Option<String>, value: Option<String>) {
    if let Some(value) = value {
        *place = Some(value).filter(|value| !value.is_empty());
    }
}

fn absolute(path: &str) -> Result<String, Fault> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|error| Fault::usage(format!("{path}: {error}")))?;
    let text = absolute.into_os_string().into_string();
    text.map_err(|path| Fault::usage(format!("{}: the path is not UTF-8", path.display())))
}

fn show(output: Output) -> Result<(), Fault> {
    let Target { address, origin, .. } = Target::choose(None)?;
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
    fn files_of_a_context_begin_at_its_directory_and_a_certificate_needs_its_key() {
        let mut contexts = contexts(Some("far"));
        let mut far = contexts.get("far").unwrap().clone();
        far.ca = Some("/etc/ca.crt".to_owned());
        far.certificate = Some("me.crt".to_owned());
        contexts.put(far.clone());
        let half = Target::from_contexts(None, &contexts).unwrap_err();
        assert_eq!(half.exit, Exit::Usage);
        far.key = Some("me.key".to_owned());
        contexts.put(far);
        let target = Target::from_contexts(None, &contexts).unwrap();
        assert_eq!(target.ca, Some(PathBuf::from("/etc/ca.crt")));
        let base = config_directory().unwrap_or_default();
        assert_eq!(target.identity, Some((base.join("me.crt"), base.join("me.key"))));
        let flagged = Target::choose(Some("here:1")).unwrap();
        assert_eq!((flagged.ca, flagged.identity), (None, None), "--broker goes around all of it");
    }

    #[test]
    fn a_context_that_is_not_there_or_has_no_native_door_is_not_found() {
        assert_eq!(target(Some("nowhere"), None), Err(Exit::NotFoundOrHeld));
        assert_eq!(target(Some("kafka-only"), None), Err(Exit::NotFoundOrHeld));
    }
}
