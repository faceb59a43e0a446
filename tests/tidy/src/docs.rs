//! Rules for Markdown: one title, links that resolve, commands that a test knows.
//!
//! Absent on purpose: links to other hosts, which a test without a network cannot follow.

use crate::{Finding, SourceFile, Tree, tree};

/// Every command that a page tells people to type, and the test that keeps it working: a file, and
/// a text that must stand in it.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("cargo run --release -p bateau -- dev", "broker/tests/command_line.rs", "\"dev\""),
    ("./check", ".ci/run", "./check"),
    ("cargo test -p tidy", "check", "cargo test"),
    ("fuzz/run 60", "check", "fuzz/run"),
    ("TIDY_WRITE=1 cargo test -p tidy", "tests/tidy/src/tables.rs", "TIDY_WRITE"),
    ("cd tests/kafka_clients/kafkajs", "tests/kafka_clients/src/runtimes.rs", "npm"),
    ("npm ci", "tests/kafka_clients/src/runtimes.rs", "\"ci\""),
    ("node order-service.js", "tests/kafka_clients/tests/kafkajs.rs", "order"),
    ("node inventory-service.js", "tests/kafka_clients/tests/kafkajs.rs", "inventory"),
    (
        "target/release/bateau produce orders paid",
        "broker/tests/command_line_client/records.rs",
        "\"produce\", \"orders\"",
    ),
    (
        "target/release/bateau consume orders --from :end",
        "broker/tests/command_line_client/records.rs",
        "\"consume\", \"orders\", \"--from\", \":end\"",
    ),
    ("bateau dev", "broker/tests/command_line.rs", "\"dev\""),
    ("bateau dev --nodes 3", "broker/tests/nodes_of_one_process.rs", "\"--nodes\", \"3\""),
    ("bateau version", "broker/tests/command_line.rs", "\"version\""),
    ("bateau config check node.toml", "broker/tests/command_line.rs", "\"check\""),
    (
        "bateau config explain topics.partitions_default",
        "broker/tests/command_line.rs",
        "\"explain\"",
    ),
    ("bateau serve --config node.toml", "broker/tests/command_line.rs", "\"serve\""),
    (
        "cargo run --release -p sim -- --seed 7",
        "tests/sim/tests/command_line.rs",
        "\"--seed\", \"7\"",
    ),
    (
        "cargo run --release -p sim -- --seed 1 --count 2000 --seconds 20",
        "tests/sim/tests/command_line.rs",
        "\"--seed\", \"1\", \"--count\"",
    ),
    (
        "cargo run --release -p cluster-tests --bin rows -- --row P1 --runs 1 --seed 7",
        "tests/cluster/tests/command_line.rs",
        "\"--row\", \"P1\", \"--runs\", \"1\", \"--seed\", \"7\"",
    ),
    (
        "cargo run --release -p cluster-tests --bin rows -- --number created --runs 3",
        "tests/cluster/tests/command_line.rs",
        "\"--number\", \"created\", \"--runs\", \"3\"",
    ),
    ("bateau node list", "tests/cluster/tests/membership.rs", "\"node\", \"list\""),
    ("bateau node add 4", "tests/cluster/src/commanded.rs", "\"node\", \"add\", &id.to_string()"),
    ("bateau node drain 3", "tests/cluster/tests/membership.rs", "\"node\", \"drain\", \"3\""),
    (
        "bateau node drain 3 --undo",
        "tests/cluster/tests/membership.rs",
        "\"node\", \"drain\", \"3\", \"--undo\"",
    ),
    (
        "bateau node remove 1",
        "tests/cluster/tests/membership.rs",
        "\"node\", \"remove\", \"1\", \"--yes\"",
    ),
    (
        "bateau node replace 3",
        "tests/cluster/tests/membership.rs",
        "\"node\", \"replace\", \"3\", \"--yes\"",
    ),
];

/// Pages of which a test runs every command: the page, the test, and a text in it.
const PAGES: &[(&str, &str, &str)] = &[
    (
        "docs/command-line.md",
        "broker/tests/command_line_client/examples.rs",
        "docs/command-line.md",
    ),
    ("docs/http.md", "tests/kafka_clients/tests/test_control.rs", "docs/http.md"),
    ("docs/runbook.md", "tests/cluster/tests/runbook.rs", "docs/runbook.md"),
    ("docs/security.md", "tests/cluster/tests/encrypted.rs", "docs/security.md"),
];

/// Pages with no title or more than one.
#[must_use]
pub fn titles(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("md") {
        let titles = prose(file).filter(|(_, line)| line.starts_with("# ")).count();
        if titles != 1 {
            findings.push(Finding::new(&file.path, 1, format!("has {titles} titles, not one")));
        }
    }
    findings
}

/// Links to files or headings that are not there.
#[must_use]
pub fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("md") {
        for (number, line) in prose(file) {
            for target in targets(line) {
                if let Some(reason) = broken(tree, file, target) {
                    findings.push(Finding::new(&file.path, number, format!("{target}: {reason}")));
                }
            }
        }
    }
    findings
}

/// Commands in fenced `sh` blocks that no test knows.
#[must_use]
pub fn commands(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("md") {
        if is_run_whole(tree, &file.path) {
            continue;
        }
        for (number, command) in fenced(file) {
            let known = COMMANDS.iter().find(|(known, _, _)| *known == command);
            let proof = known.map(|(_, path, text)| (tree.get(path), path, text));
            let message = match proof {
                None => format!("`{command}` is known to no test"),
                Some((Some(test), _, text)) if test.text.contains(text) => continue,
                Some((_, path, text)) => format!("`{command}` needs {text} in {path}"),
            };
            findings.push(Finding::new(&file.path, number, message));
        }
    }
    findings
}

/// Whether a test reads this page and runs what is on it.
fn is_run_whole(tree: &Tree, path: &str) -> bool {
    let reads = |test: &str, text| tree.get(test).is_some_and(|test| test.text.contains(text));
    PAGES.iter().any(|(page, test, text)| *page == path && reads(test, text))
}

/// Lines outside of fenced blocks, counted from 1.
fn prose(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    file.text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        (!inside && !fence).then_some((number + 1, line))
    })
}

/// Lines of fenced `sh` blocks without comments.
fn fenced(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let mut shell = false;
    file.text.lines().enumerate().filter_map(move |(number, line)| {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = language == "sh";
            return None;
        }
        let command = line.split(" #").next().unwrap_or_default().trim();
        (shell && !command.is_empty() && !command.starts_with('#')).then_some((number + 1, command))
    })
}

/// What `[text](target)` points at; code spans hold no links.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let outside_code = line.split('`').step_by(2);
    outside_code.flat_map(|piece| {
        let candidates = piece.split("](").skip(1);
        candidates.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

/// Why a link leads nowhere.
fn broken(tree: &Tree, from: &SourceFile, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { from.path.clone() } else { resolved(&from.path, path)? };
    let exists = tree.get(&path).is_some() || tree::root().join(&path).exists();
    if !exists {
        return Some("no such file".to_owned());
    }
    let page = tree.get(&path).filter(|_| !anchor.is_empty())?;
    let found = prose(page).any(|(_, line)| line.starts_with('#') && slug(line) == anchor);
    (!found).then(|| format!("no such heading in {path}"))
}

/// A relative path, seen from the root.
fn resolved(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            "." | "" => {}
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Tree {
        let other = SourceFile::new("docs/other.md", "# Other\n\n## A `b`, c\n");
        Tree::sample(vec![SourceFile::new("docs/page.md", text), other])
    }

    #[test]
    fn a_page_has_one_title_and_a_comment_in_a_block_is_none() {
        assert_eq!(titles(&page("# A\n```\n# no\n```\n")), []);
        assert_eq!(titles(&page("text\n")).len(), 1);
        assert_eq!(titles(&page("# A\n# B\n")).len(), 1);
    }

    #[test]
    fn links_lead_to_files_and_headings() {
        assert_eq!(links(&page("[a](other.md) [b](../docs/other.md#a-b-c) [c](https://x)")), []);
        assert_eq!(links(&page("[a](missing.md)")).len(), 1);
        assert_eq!(links(&page("[a](other.md#nothing)")).len(), 1);
        assert_eq!(links(&page("`[a](missing.md)`")), []);
    }

    #[test]
    fn a_command_without_a_test_is_found() {
        let found = commands(&page("```sh\n# comment\nrm -rf everything   # no\n```\n"));
        assert_eq!((found.len(), found[0].line), (1, 3));
        assert!(found[0].message.starts_with("`rm -rf everything`"));
        assert_eq!(commands(&page("```text\nanything\n```\n")), []);
    }

    #[test]
    fn a_page_is_run_whole_only_by_a_test_that_reads_it() {
        let (path, test, text) = PAGES[0];
        let tree = |text: &str| {
            let page = SourceFile::new(path, "# A\n```sh\nrm -rf everything\n```\n");
            Tree::sample(vec![page, SourceFile::new(test, text)])
        };
        assert_eq!(commands(&tree(text)), []);
        assert_eq!(commands(&tree("fn test() {}")).len(), 1);
    }
}
