//! Rules for every text file: width, and nothing of the machine that it was written on.
//!
//! Absent on purpose: white space and line ends in Rust files, which rustfmt keeps.

use crate::{Finding, SourceFile, Tree};

/// Longest line, in characters.
pub const COLUMNS_MAX: usize = 100;

/// Written by programs, or data whose lines are as long as they are.
const GENERATED: &[&str] = &["lock", "sum", "json", "mod", "xml", "script", "txt"];

/// Places that exist on one machine only. Cut in two, so that this file does not break the rule.
const MACHINE_PLACES: &[(&str, &str)] =
    &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("../sha", "red"), ("/tmp/bash", "_jobs")];

/// Hosts that a lock file or package file may name: none that packages are fetched from.
const PACKAGE_HOSTS: &[&str] =
    &["github.com", "maven.apache.org", "www.w3.org", "opencollective.com", "json.schemastore.org"];

/// Lines of more than [`COLUMNS_MAX`] characters. A row of a Markdown table cannot be broken and
/// may be longer.
#[must_use]
pub fn long_lines(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !GENERATED.iter().any(|end| file.is(end))) {
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            let row = file.is("md") && line.trim_start().starts_with('|');
            if columns > COLUMNS_MAX && !row {
                let message = format!("{columns} columns, at most {COLUMNS_MAX}");
                findings.push(Finding::new(&file.path, number + 1, message));
            }
        }
    }
    findings
}

/// Paths of one machine, anywhere in the tree.
#[must_use]
pub fn machine_places(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (number, line) in file.text.lines().enumerate() {
            for (front, back) in MACHINE_PLACES {
                let place = format!("{front}{back}");
                if names_place(line, &place) {
                    let message = format!("{place} exists on one machine only");
                    findings.push(Finding::new(&file.path, number + 1, message));
                }
            }
        }
    }
    findings
}

/// Whether a path begins with `place` here: behind a space or a quote, not inside of a word.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '}' | '/'))
    })
}

/// Registries other than the public ones, in files that name where packages come from.
#[must_use]
pub fn package_hosts(tree: &Tree) -> Vec<Finding> {
    let names_packages = |file: &&SourceFile| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        matches!(name, "Cargo.lock" | "package-lock.json" | "pom.xml" | "go.sum" | ".npmrc")
            || name.starts_with("requirements")
    };
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(names_packages) {
        for (number, line) in file.text.lines().enumerate() {
            for host in hosts(line) {
                if !PACKAGE_HOSTS.contains(&host) {
                    let message = format!("packages come from public registries, not from {host}");
                    findings.push(Finding::new(&file.path, number + 1, message));
                }
            }
        }
    }
    findings
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        let end = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-'));
        rest.split(end).next().filter(|host| !host.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree::sample(vec![SourceFile::new(path, text)])
    }

    #[test]
    fn a_line_is_counted_in_characters() {
        let hundred = "é".repeat(100);
        assert_eq!(long_lines(&tree("a.rs", &hundred)), []);
        assert_eq!(long_lines(&tree("a.rs", &format!("\n{hundred}x")))[0].line, 2);
        assert_eq!(long_lines(&tree("a.md", &format!("| {hundred} |"))), []);
        assert_eq!(long_lines(&tree("check", &format!("{hundred}x"))).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found_behind_a_quote() {
        let place = ["/ho", "me/me"].concat();
        assert_eq!(machine_places(&tree("a.rs", &format!("open(\"{place}\")"))).len(), 1);
        assert_eq!(machine_places(&tree("a.rs", &format!("https://host{place}"))), []);
    }

    #[test]
    fn a_lock_file_names_no_place_to_fetch_from() {
        let of = |url: &str| package_hosts(&tree("a/package-lock.json", url)).len();
        assert_eq!(of("\"funding\": \"https://opencollective.com/kafkajs\""), 0);
        assert_eq!(of("\"resolved\": \"https://mirror.example/kafkajs\""), 1);
    }
}
