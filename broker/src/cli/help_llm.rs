//! `bateau --help-llm`: every command on one page, for programs that read and for their models.
//!
//! ```text
//!   topic delete <TOPIC>... [--yes] [--dry-run] … | user | destructive | Delete topics
//! ```
//!
//! The scope says whom a command concerns: `user` for those who work with topics and groups,
//! `system` for those who run a node. The impact says what it does: `ro` changes nothing, `rw`
//! changes something, `destructive` takes something away for good.
//!
//! Absent on purpose: a second list of commands. All of it comes from the tree that parses them,
//! but the tags; a test finds a command without one.

use super::Arguments;
use super::fault::Fault;
use super::output::print;
use clap::{Arg, ArgAction, Command, CommandFactory};

/// Scope and impact of every command.
const TAGS: &[(&str, &str, &str)] = &[
    ("dev", "system", "rw"),
    ("serve", "system", "rw"),
    ("produce", "user", "rw"),
    ("consume", "user", "rw"),
    ("status", "user", "ro"),
    ("lag", "user", "ro"),
    ("topic create", "user", "rw"),
    ("topic list", "user", "ro"),
    ("topic describe", "user", "ro"),
    ("topic alter", "user", "rw"),
    ("topic delete", "user", "destructive"),
    ("group list", "user", "ro"),
    ("group describe", "user", "ro"),
    ("group seek", "user", "rw"),
    ("group delete", "user", "destructive"),
    ("node list", "system", "ro"),
    ("node add", "system", "rw"),
    ("node remove", "system", "destructive"),
    ("node replace", "system", "destructive"),
    ("node drain", "system", "rw"),
    ("node unsafe-recover", "system", "destructive"),
    ("config check", "system", "ro"),
    ("config explain", "system", "ro"),
    ("log dump", "system", "ro"),
    ("ctx list", "user", "ro"),
    ("ctx use", "user", "rw"),
    ("ctx -", "user", "rw"),
    ("ctx show", "user", "ro"),
    ("ctx set", "user", "rw"),
    ("ctx delete", "user", "destructive"),
    ("completion", "user", "ro"),
    ("explain", "user", "ro"),
    ("version", "user", "ro"),
];

pub(super) fn run() -> Result<(), Fault> {
    print(&page())
}

fn page() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut text = "bateau: COMMAND ARGUMENTS | scope | impact | meaning\n\
                    scope: user, system; impact: ro, rw, destructive\n\
                    exit codes: 0 done, 1 failed, 2 usage, 3 not found or held, 4 refused, \
                    5 timed out, 6 unreachable\n\
                    -o json prints one object per line; without a terminal it is the default\n\n"
        .to_owned();
    add(&command, "", &mut text);
    text
}

/// Appends the commands below this one; one that has none below it is a line.
fn add(command: &Command, path: &str, text: &mut String) {
    let below = command.get_subcommands().filter(|one| one.get_name() != "help");
    let below: Vec<&Command> = below.collect();
    if below.is_empty() {
        let (scope, impact) = tags(path);
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let arguments: String = command.get_arguments().filter_map(shown).collect();
        *text += &format!("{path}{arguments} | {scope} | {impact} | {about}\n");
    }
    for one in below {
        let name = one.get_name();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
        add(one, &path, text);
    }
}

fn tags(path: &str) -> (&'static str, &'static str) {
    let found = TAGS.iter().find(|(name, ..)| *name == path);
    found.map_or(("?", "?"), |(_, scope, impact)| (scope, impact))
}

/// An argument as it is typed, with a space before it; not those that every command has.
fn shown(argument: &Arg) -> Option<String> {
    let is_everywhere = matches!(argument.get_id().as_str(), "help" | "version" | "output");
    if argument.is_hide_set() || is_everywhere || argument.get_id() == "help_llm" {
        return None;
    }
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.first().map_or_else(|| argument.get_id().to_string(), ToString::to_string);
    let takes = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let flag = argument.get_long().map(|long| format!("--{long}"));
    let flag = flag.or_else(|| argument.get_short().map(|short| format!("-{short}")));
    let more = if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
    let text = match flag {
        None => format!("<{value}>{more}"),
        Some(flag) if takes => format!("{flag} {value}{more}"),
        Some(flag) => flag,
    };
    Some(if argument.is_required_set() { format!(" {text}") } else { format!(" [{text}]") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_tags_and_every_tag_its_command() {
        let page = page();
        let lines: Vec<&str> = page.split("\n\n").nth(1).unwrap_or_default().lines().collect();
        assert_eq!(lines.len(), TAGS.len(), "{page}");
        for line in &lines {
            assert!(!line.contains("| ? |") && line.matches(" | ").count() == 3, "{line}");
        }
        let deleting = lines.iter().find(|line| line.starts_with("topic delete")).unwrap();
        assert!(deleting.starts_with("topic delete <TOPIC>..."), "{deleting}");
        assert!(deleting.contains("[--yes]") && deleting.contains("| user | destructive |"));
        assert!(deleting.contains("[--broker HOST:PORT]"), "{deleting}");
    }
}
