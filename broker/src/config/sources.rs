//! Where values come from: flags, variables, one file, defaults. Gathered here, judged elsewhere.
//!
//! Absent on purpose: reading the environment or a file behind the caller's back. A test hands
//! over what `main` would have read.

use super::Mode;
use super::keys::{DEV_DEFAULTS, KEYS, find};
use super::problem::Problem;
use super::value::Raw;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A flag of the command line, as written: `-X` or `--kafka`.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// A line of the file, counted from 1.
    File {
        /// As given on the command line.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// What `bateau dev` does differently.
    Dev,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Dev => f.write_str("default of dev"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One value, not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Dotted name, known or not.
    pub key: String,
    /// The value.
    pub raw: Raw,
    /// Where it came from.
    pub origin: Origin,
}

/// Everything that was said, weakest first: the last setting of a key holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Sources {
    /// Settings, weakest source first.
    pub settings: Vec<Setting>,
    /// What could not even be read.
    pub problems: Vec<Problem>,
}

impl Sources {
    /// Every key at its default.
    #[must_use]
    pub fn defaults(mode: Mode) -> Self {
        let setting = |key: &super::keys::Key| Setting {
            key: key.name.to_owned(),
            raw: Raw::Loose(key.default.to_owned()),
            origin: Origin::Default,
        };
        let mut sources =
            Self { settings: KEYS.iter().map(setting).collect(), problems: Vec::new() };
        if mode == Mode::Dev {
            for (key, value) in DEV_DEFAULTS {
                sources.say(key, value, Origin::Dev);
            }
        }
        sources
    }

    /// Adds one value.
    pub fn say(&mut self, key: &str, value: &str, origin: Origin) {
        let raw = Raw::Loose(value.to_owned());
        self.settings.push(Setting { key: key.to_owned(), raw, origin });
    }

    /// Adds a file: `path` for messages, `text` as it was read.
    pub fn add_file(&mut self, path: &Path, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let readable = errors.is_empty();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let origin = Origin::File { path: path.to_owned(), line: line_of(text, at) };
            self.problems.push(Problem::Source { origin, reason: error.message().to_owned() });
        }
        // What a broken file seems to say would only add faults that are not there.
        if readable {
            self.add_table("", table.get_ref(), &FileText { path, text });
        }
    }

    /// Adds the variables `BATEAU_SECTION__KEY`; all others are somebody else's.
    pub fn add_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let rest = name.strip_prefix("BATEAU_").and_then(|rest| rest.split_once("__"));
            if let Some((section, key)) = rest {
                let key = format!("{section}.{key}").to_lowercase();
                self.say(&key, &value, Origin::Variable(name));
            }
        }
    }

    /// Adds the values of `-X key=value`.
    pub fn add_flags(&mut self, flags: &[String]) {
        for flag in flags {
            match flag.split_once('=') {
                Some((key, value)) => {
                    self.say(key.trim(), value, Origin::Flag("-X".to_owned()));
                }
                None => self.problems.push(Problem::Source {
                    origin: Origin::Flag(format!("-X {flag}")),
                    reason: "expected key=value, as in -X topics.partitions_default=4".to_owned(),
                }),
            }
        }
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>, file: &FileText<'_>) {
        for (name, value) in table {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                _ => format!("{prefix}.{}", name.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) if find(&key).is_none() => {
                    let section = format!("{key}.");
                    let known = KEYS.iter().any(|known| known.name.starts_with(&section));
                    if inner.is_empty() && !known {
                        self.settings.push(file.setting(key, name.span().start, value));
                    } else {
                        self.add_table(&key, inner, file);
                    }
                }
                _ => self.settings.push(file.setting(key, name.span().start, value)),
            }
        }
    }
}

struct FileText<'a> {
    path: &'a Path,
    text: &'a str,
}

impl FileText<'_> {
    fn setting(&self, key: String, at: usize, value: &Spanned<DeValue<'_>>) -> Setting {
        let line = line_of(self.text, at);
        let written = || self.text.get(value.span()).unwrap_or_default().replace('\n', " ");
        let raw = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Raw::Other(written()), Raw::Integer),
            DeValue::Boolean(flag) => Raw::Boolean(*flag),
            DeValue::String(text) => Raw::String(text.to_string()),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map_or_else(|| Raw::Other(written()), Raw::Strings)
            }
            _ => Raw::Other(written()),
        };
        Setting { key, raw, origin: Origin::File { path: self.path.to_owned(), line } }
    }
}

/// Line, from 1, of a byte position.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
