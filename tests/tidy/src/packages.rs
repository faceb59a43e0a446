//! Rules for dependencies, from `cargo metadata`: who depends on whom, licences, sources,
//! duplicates and the size of the release.
//!
//! The lists are those of `deny.toml`, so that there is one place to change them. Advisories need
//! a database and belong to releases, where cargo-deny reads the same file.
//!
//! Absent on purpose: other targets than the machine's own.

use crate::{Finding, Tree, tables, tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Most packages in the tree that a release is built from, ours included.
pub const RELEASE_PACKAGES_MAX: usize = 130;

/// The binary that is released.
const RELEASED: &str = "bateau";

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `cargo metadata` says, as far as the rules need it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Packages {
    /// All packages by id.
    pub by_id: BTreeMap<String, Package>,
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
    /// Ids of what it needs to be built.
    pub needs: BTreeSet<String>,
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
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
            .current_dir(tree::root())
            .output()
            .expect("cargo can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        Self::parse(&json)
    }

    fn parse(json: &Value) -> Self {
        let mut by_id = BTreeMap::new();
        for package in items(&json["packages"]) {
            by_id.insert(
                text(&package["id"]),
                Package {
                    name: text(&package["name"]),
                    version: text(&package["version"]),
                    license: text(&package["license"]),
                    source: text(&package["source"]),
                    needs: BTreeSet::new(),
                    direct: [false, true].map(|tests| direct(package, tests)),
                },
            );
        }
        for node in items(&json["resolve"]["nodes"]) {
            let build = |dep: &&Value| items(&dep["dep_kinds"]).any(|kind| kind["kind"] != "dev");
            let needs = items(&node["deps"]).filter(build).map(|dep| text(&dep["pkg"])).collect();
            if let Some(package) = by_id.get_mut(&text(&node["id"])) {
                package.needs = needs;
            }
        }
        Self { by_id }
    }

    /// Everything that the released binary is built from.
    #[must_use]
    pub fn release(&self) -> Vec<&Package> {
        let ours = |(_, package): &(&String, &Package)| {
            package.name == RELEASED && package.source.is_empty()
        };
        let mut open: Vec<&String> = self.by_id.iter().filter(ours).map(|(id, _)| id).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.by_id.get(id).into_iter().flat_map(|package| &package.needs));
            }
        }
        seen.into_iter().filter_map(|id| self.by_id.get(id)).collect()
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
    let release = packages.release();
    if release.len() > RELEASE_PACKAGES_MAX {
        find(format!("{} packages in a release, at most {RELEASE_PACKAGES_MAX}", release.len()));
    }
    let mut majors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in release {
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

    fn package(name: &str, version: &str, license: &str, needs: &[&str]) -> (String, Package) {
        let source = if name == RELEASED { String::new() } else { REGISTRY.to_owned() };
        let id = format!("{name} {version}");
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        let (name, version, license) = (name.to_owned(), version.to_owned(), license.to_owned());
        (id, Package { name, version, license, source, needs, ..Package::default() })
    }

    fn policy() -> Policy {
        let licenses = ["MIT", "Unicode-3.0"].map(str::to_owned).to_vec();
        Policy { licenses, duplicates: vec!["syn".to_owned()], banned: vec!["ring".to_owned()] }
    }

    fn messages(packages: Vec<(String, Package)>) -> Vec<String> {
        let packages = Packages { by_id: packages.into_iter().collect() };
        supply_chain(&packages, &policy()).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn only_what_a_release_needs_is_judged() {
        let unused = package("unused", "1.0.0", "GPL-3.0", &[]);
        assert_eq!(messages(vec![package("bateau", "0.1.0", "MIT", &[]), unused]), [""; 0]);
    }

    #[test]
    fn a_licence_a_banned_package_and_a_foreign_source_are_found() {
        let mut foreign = package("git", "1.0.0", "MIT", &[]);
        foreign.1.source = "git+https://example.org/x".to_owned();
        let found = messages(vec![
            package("bateau", "0.1.0", "MIT", &["gnu 1.0.0", "ring 0.17.0"]),
            package("gnu", "1.0.0", "GPL-3.0", &[]),
            package("ring", "0.17.0", "MIT", &[]),
            foreign,
        ]);
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
            let ids = [format!("{name} 0.1.0"), format!("{name} 0.2.0")];
            messages(vec![
                package("bateau", "0.1.0", "MIT", &[&ids[0], &ids[1]]),
                package(name, "0.1.0", "MIT", &[]),
                package(name, "0.2.0", "MIT", &[]),
            ])
        };
        assert_eq!(found("syn"), [""; 0]);
        let expected = "rand is in a release as 0.1 and 0.2: deny.toml has no reason for it";
        assert_eq!(found("rand"), [expected]);
    }

    #[test]
    fn a_release_has_a_largest_size() {
        let names: Vec<String> = (0..RELEASE_PACKAGES_MAX).map(|n| format!("p{n} 1.0.0")).collect();
        let needs: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut packages = vec![package("bateau", "0.1.0", "MIT", &needs)];
        let small = |n| package(&format!("p{n}"), "1.0.0", "MIT", &[]);
        packages.extend((1..RELEASE_PACKAGES_MAX).map(small));
        assert_eq!(messages(packages.clone()), [""; 0]);
        packages.push(small(0));
        assert_eq!(messages(packages), ["131 packages in a release, at most 130"]);
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
