//! Rules for dependencies, from `cargo metadata` and `cargo tree`: who depends on whom, licences,
//! sources, duplicates and the sizes of the release and of the client.
//!
//! What is in a release is what `cargo tree` says: it resolves features for that one package.
//! `cargo metadata` does so for the whole workspace at once, and lists optional packages that
//! nobody built switches on.
//!
//! The lists are those of `deny.toml`, so that there is one place to change them. Advisories need
//! a database and belong to releases, where cargo-deny reads the same file.
//!
//! Absent on purpose: other targets than the machine's own.

use crate::{Finding, Tree, tables, tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Most packages in the tree that a release is built from, ours and build scripts' included.
pub const RELEASE_PACKAGES_MAX: usize = 200;

/// Most packages that a user of the client gets into the program, ours included.
pub const CLIENT_PACKAGES_MAX: usize = 60;

/// The binary that is released, and the edges along which packages take part in it.
const RELEASED: (&str, &str) = ("bateau", "normal,build");

/// The client, and what ends up inside of a program that uses it.
const CLIENT: (&str, &str) = ("bateau-client", "normal");

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `cargo metadata` says, as far as the rules need it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Packages {
    /// All packages by id.
    pub by_id: BTreeMap<String, Package>,
    /// Names and versions of what a release is built from.
    pub released: BTreeSet<(String, String)>,
    /// Names and versions of what the client brings along.
    pub client: BTreeSet<(String, String)>,
}

/// One package.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Licence expression.
    pub license: String,
    /// Where it comes from; empty for ours.
    pub source: String,
    /// Names that its own manifest lists, without and with tests.
    pub direct: [BTreeSet<String>; 2],
}

/// The lists of `deny.toml`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Licences that may be in a release.
    pub licenses: Vec<String>,
    /// Packages that may be there in two majors.
    pub duplicates: Vec<String>,
    /// Packages that may never be there.
    pub banned: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml`.
    ///
    /// Panics when it is not what cargo-deny would read.
    #[must_use]
    pub fn load(tree: &Tree) -> Self {
        let text = &tree.get("deny.toml").expect("deny.toml exists").text;
        let table: toml::Table = text.parse().expect("deny.toml is TOML");
        let list = |section: &str, key: &str| -> Vec<String> {
            let items = table.get(section).and_then(|section| section.get(key));
            let items = items.and_then(toml::Value::as_array).cloned().unwrap_or_default();
            let name = |item: &toml::Value| {
                let name = item.as_str().or_else(|| item.get("crate")?.as_str());
                let name = name.expect("a text or { crate = … }");
                name.split('@').next().unwrap_or(name).to_owned()
            };
            items.iter().map(name).collect()
        };
        Self {
            licenses: list("licenses", "allow"),
            duplicates: list("bans", "skip"),
            banned: list("bans", "deny"),
        }
    }
}

impl Packages {
    /// Asks cargo, for this machine's target and the committed lock file.
    ///
    /// Panics when cargo fails: then no rule can be trusted.
    #[must_use]
    pub fn load() -> Self {
        let target = target();
        let metadata =
            cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", &target]);
        let json: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
        Self { by_id: parse(&json), released: tree_of(RELEASED), client: tree_of(CLIENT) }
    }

    /// Everything that the released binary is built from.
    fn release(&self) -> impl Iterator<Item = &Package> {
        let is_released = |package: &&Package| {
            self.released.contains(&(package.name.clone(), package.version.clone()))
        };
        self.by_id.values().filter(is_released)
    }

    /// Our own packages, in order of name.
    fn ours(&self) -> Vec<&Package> {
        let mut ours: Vec<_> = self.by_id.values().filter(|p| p.source.is_empty()).collect();
        ours.sort_by(|a, b| a.name.cmp(&b.name));
        ours
    }
}

/// Differences to the table `dependencies` of `docs/ARCHITECTURE.md`.
#[must_use]
pub fn arrows(tree: &Tree, packages: &Packages) -> Vec<Finding> {
    let ours = packages.ours();
    let is_ours = |name: &&String| ours.iter().any(|package| package.name == **name);
    let joined = |names: Vec<&String>| match names.as_slice() {
        [] => "–".to_owned(),
        _ => names.into_iter().cloned().collect::<Vec<_>>().join(", "),
    };
    let headings = ["Package", "depends on ours", "and on others", "in tests also on"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for package in &ours {
        let [always, tests] = &package.direct;
        rows.push(vec![
            package.name.clone(),
            joined(always.iter().filter(is_ours).collect()),
            joined(always.iter().filter(|name| !is_ours(name)).collect()),
            joined(tests.iter().collect()),
        ]);
    }
    tables::compare(tree, "docs/ARCHITECTURE.md", "dependencies", &rows)
}

/// Sources other than the one registry, licences that are not allowed, duplicate majors, banned
/// packages, and a release that is too large.
#[must_use]
pub fn supply_chain(packages: &Packages, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |message: String| findings.push(Finding::new("Cargo.lock", 0, message));
    for Package { name, source, .. } in packages.by_id.values() {
        if !source.is_empty() && source != REGISTRY {
            find(format!("{name} comes from {source}, not from crates.io"));
        }
    }
    for (what, found, max) in [
        ("a release", packages.released.len(), RELEASE_PACKAGES_MAX),
        ("a program with our client", packages.client.len(), CLIENT_PACKAGES_MAX),
    ] {
        if found > max {
            find(format!("{found} packages in {what}, at most {max}"));
        }
    }
    let mut majors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages.release() {
        let Package { name, version, license, .. } = package;
        if !allowed(license, &policy.licenses) {
            find(format!("{name} has licence `{license}`, which deny.toml does not allow"));
        }
        if policy.banned.contains(name) {
            find(format!("{name} is banned by deny.toml"));
        }
        majors.entry(name).or_default().insert(major(version));
    }
    for (name, majors) in majors {
        if majors.len() > 1 && !policy.duplicates.iter().any(|skipped| skipped == name) {
            let majors = majors.into_iter().collect::<Vec<_>>().join(" and ");
            find(format!("{name} is in a release as {majors}: deny.toml has no reason for it"));
        }
    }
    findings
}

fn parse(json: &Value) -> BTreeMap<String, Package> {
    let package = |package: &Value| Package {
        name: text(&package["name"]),
        version: text(&package["version"]),
        license: text(&package["license"]),
        source: text(&package["source"]),
        direct: [false, true].map(|tests| direct(package, tests)),
    };
    items(&json["packages"]).map(|value| (text(&value["id"]), package(value))).collect()
}

/// Names and versions of a package's tree along some kinds of edges, its features resolved.
fn tree_of((package, edges): (&str, &str)) -> BTreeSet<(String, String)> {
    let target = target();
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        edges,
        "--target",
        &target,
        "--prefix",
        "none",
    ]);
    listed(&tree)
}

/// Reads lines like `quinn v0.11.12`, behind which there may be more.
fn listed(tree: &str) -> BTreeSet<(String, String)> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    };
    tree.lines().filter_map(line).collect()
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What a cargo command prints.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(tree::root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// What semver calls compatible: `1`, `0.7`, `0.0.3`.
fn major(version: &str) -> String {
    let parts: Vec<&str> = version.split(['.', '-', '+']).collect();
    match parts.as_slice() {
        ["0", "0", patch, ..] => format!("0.0.{patch}"),
        ["0", minor, ..] => format!("0.{minor}"),
        [major, ..] => (*major).to_owned(),
        [] => String::new(),
    }
}

/// Whether an SPDX expression can be met: one side of each OR, both of each AND.
fn allowed(expression: &str, licenses: &[String]) -> bool {
    let expression = expression.trim();
    if let Some((left, right)) = outermost(expression, &[" AND "]) {
        return allowed(left, licenses) && allowed(right, licenses);
    }
    if let Some((left, right)) = outermost(expression, &[" OR ", "/"]) {
        return allowed(left, licenses) || allowed(right, licenses);
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner, licenses),
        None => licenses.iter().any(|license| license == expression),
    }
}

/// Splits at the first operator outside of parentheses. AND binds tighter than OR, so it is only
/// looked for where no OR is left outside of parentheses.
fn outermost<'a>(expression: &'a str, operators: &[&str]) -> Option<(&'a str, &'a str)> {
    let mut depth = 0;
    let mut found = None;
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth > 0 => {}
            _ => {
                let rest = &expression[at..];
                if rest.starts_with(" OR ") && operators[0] == " AND " {
                    return None;
                }
                let operator = operators.iter().find(|operator| rest.starts_with(**operator));
                if let (None, Some(operator)) = (found, operator) {
                    found = Some((&expression[..at], &rest[operator.len()..]));
                }
            }
        }
    }
    found
}

/// Names in a manifest: of what is always needed, or of what only tests need.
fn direct(package: &Value, tests: bool) -> BTreeSet<String> {
    let of = |tests: bool| {
        let wanted = move |dep: &&Value| (dep["kind"] == "dev") == tests;
        items(&package["dependencies"]).filter(wanted).map(|dep| text(&dep["name"]))
    };
    let always: BTreeSet<String> = of(false).collect();
    if tests { of(true).filter(|name| !always.contains(name)).collect() } else { always }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, license: &str) -> Package {
        let (name, version, license) = (name.to_owned(), version.to_owned(), license.to_owned());
        let source = REGISTRY.to_owned();
        Package { name, version, license, source, ..Package::default() }
    }

    fn version(package: &Package) -> (String, String) {
        (package.name.clone(), package.version.clone())
    }

    fn by_id(packages: Vec<Package>) -> BTreeMap<String, Package> {
        packages.into_iter().map(|package| (format!("{:?}", version(&package)), package)).collect()
    }

    fn policy() -> Policy {
        let licenses = ["MIT", "Unicode-3.0"].map(str::to_owned).to_vec();
        Policy { licenses, duplicates: vec!["syn".to_owned()], banned: vec!["ring".to_owned()] }
    }

    fn messages(packages: &Packages) -> Vec<String> {
        supply_chain(packages, &policy()).into_iter().map(|finding| finding.message).collect()
    }

    /// Findings where all of these are released.
    fn released(packages: Vec<Package>) -> Vec<String> {
        let released = packages.iter().map(version).collect();
        messages(&Packages { by_id: by_id(packages), released, ..Packages::default() })
    }

    #[test]
    fn only_what_a_release_needs_is_judged() {
        let unused = by_id(vec![package("unused", "1.0.0", "GPL-3.0")]);
        assert_eq!(messages(&Packages { by_id: unused, ..Packages::default() }), [""; 0]);
    }

    #[test]
    fn what_cargo_lists_is_read_whatever_stands_behind_it() {
        let tree = "bateau v0.1.0 (/some/where)\nsyn v2.0.1\n\nsyn v3.0.9 (proc-macro)\n\
                    quinn v0.11.12 (*)\nquinn v0.11.12\n";
        let found: Vec<_> = listed(tree).into_iter().map(|(name, at)| name + " " + &at).collect();
        assert_eq!(found, ["bateau 0.1.0", "quinn 0.11.12", "syn 2.0.1", "syn 3.0.9"]);
    }

    #[test]
    fn a_licence_a_banned_package_and_a_foreign_source_are_found() {
        let mut foreign = package("git", "1.0.0", "MIT");
        foreign.source = "git+https://example.org/x".to_owned();
        let gnu = package("gnu", "1.0.0", "GPL-3.0");
        let found = released(vec![gnu, package("ring", "0.17.0", "MIT"), foreign]);
        assert_eq!(
            found,
            [
                "git comes from git+https://example.org/x, not from crates.io",
                "gnu has licence `GPL-3.0`, which deny.toml does not allow",
                "ring is banned by deny.toml",
            ]
        );
    }

    #[test]
    fn two_majors_need_a_reason() {
        let found = |name: &str| {
            released(vec![package(name, "0.1.0", "MIT"), package(name, "0.2.0", "MIT")])
        };
        assert_eq!(found("syn"), [""; 0]);
        let expected = "rand is in a release as 0.1 and 0.2: deny.toml has no reason for it";
        assert_eq!(found("rand"), [expected]);
    }

    #[test]
    fn a_release_and_the_client_have_a_largest_size() {
        let many = |count| -> BTreeSet<_> {
            (0..count).map(|number| (format!("p{number}"), "1.0.0".to_owned())).collect()
        };
        let found = |released, client| {
            let (released, client) = (many(released), many(client));
            messages(&Packages { released, client, ..Packages::default() })
        };
        assert_eq!(found(RELEASE_PACKAGES_MAX, CLIENT_PACKAGES_MAX), [""; 0]);
        assert_eq!(
            found(RELEASE_PACKAGES_MAX + 1, CLIENT_PACKAGES_MAX + 1),
            [
                "201 packages in a release, at most 200",
                "61 packages in a program with our client, at most 60",
            ]
        );
    }

    #[test]
    fn licence_expressions_are_understood() {
        let meets = |expression: &str| allowed(expression, &policy().licenses);
        assert!(meets("MIT OR GPL-3.0") && meets("GPL-3.0/MIT"));
        assert!(meets("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(meets("GPL-3.0 AND Zlib OR MIT"));
        assert!(!meets("MIT AND GPL-3.0") && !meets("") && !meets("(GPL-3.0)"));
    }
}
