//! `docs/configuration.md` lists every key as the code has it.

use bateau::config::keys::{DEV_DEFAULTS, KEYS};
use bateau::config::value::allowed;
use tidy::{Tree, tables};

#[test]
fn every_key_is_documented_with_its_default_and_range() {
    let headings = ["Key", "Default", "Allowed", "Meaning"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for key in KEYS {
        let mut default = match key.default {
            "" => "empty".to_owned(),
            text => format!("`{text}`"),
        };
        if let Some((_, dev)) = DEV_DEFAULTS.iter().find(|(name, _)| *name == key.name) {
            default += &format!(", in `dev` `{dev}`");
        }
        let name = format!("`{}`", key.name);
        rows.push(vec![name, default, allowed(key), key.meaning.to_owned()]);
    }
    let findings = tables::compare(&Tree::load(), "docs/configuration.md", "keys", &rows);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
