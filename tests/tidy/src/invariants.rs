//! An invariant is written down and asserted, or it is a wish.
//!
//! Ids read `I-LOG-1`. Each must stand in documentation and in the message of an assertion, which
//! is a string of the product's code.
//!
//! Absent on purpose: whether the assertion is the right one. A planted fault shows that.

use crate::lexer::{Lexed, Part};
use crate::rust::product_part;
use crate::{Finding, Tree};
use std::collections::BTreeMap;

#[derive(Default)]
struct Seen {
    first: Option<(String, usize)>,
    documented: bool,
    asserted: bool,
}

/// Ids that are only documented, or only asserted.
#[must_use]
pub fn half_kept(tree: &Tree) -> Vec<Finding> {
    let mut ids: BTreeMap<String, Seen> = BTreeMap::new();
    for file in tree.of("rs").filter(|file| !file.path.starts_with("tests/tidy/")) {
        let lexed = Lexed::new(product_part(file));
        let mut note = |part, mark: fn(&mut Seen)| {
            for (number, line) in lexed.view(part).lines().enumerate() {
                for id in found_in(line) {
                    let seen = ids.entry(id).or_default();
                    seen.first.get_or_insert_with(|| (file.path.clone(), number + 1));
                    mark(seen);
                }
            }
        };
        note(Part::Documentation, |seen| seen.documented = true);
        note(Part::Literal, |seen| seen.asserted = true);
        note(Part::Comment, |_| {});
    }
    let wrong = ids.into_iter().filter(|(_, seen)| !(seen.documented && seen.asserted));
    let finding = |(id, seen): (String, Seen)| {
        let missing = if seen.documented { "assertion's message" } else { "doc comment" };
        let (path, line) = seen.first.unwrap_or_default();
        Finding::new(&path, line, format!("{id} appears in no {missing}"))
    };
    wrong.map(finding).collect()
}

/// `I-`, capitals, `-`, digits.
fn found_in(line: &str) -> Vec<String> {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_id = |word: &&str| {
        let parts: Vec<&str> = word.split('-').collect();
        let all =
            |text: &str, kind: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| kind(&b));
        match parts.as_slice() {
            ["I", name, number] => {
                all(name, u8::is_ascii_uppercase) && all(number, u8::is_ascii_digit)
            }
            _ => false,
        }
    };
    words.filter(is_id).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceFile;

    fn findings(text: &str) -> Vec<String> {
        let tree = Tree::sample(vec![SourceFile::new("a/src/b.rs", text)]);
        half_kept(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_id_stands_in_documentation_and_in_an_assertion() {
        let both = "//! `I-LOG-1` No gaps.\nfn f() { assert!(x, \"I-LOG-1: {x}\"); }\n";
        assert_eq!(findings(both), [""; 0]);
        let documented = findings("//! `I-LOG-1` No gaps.\n");
        assert_eq!(documented, ["a/src/b.rs:1: I-LOG-1 appears in no assertion's message"]);
        let asserted = findings("//! x\nfn f() { assert!(x, \"I-LOG-1\"); }\n");
        assert_eq!(asserted, ["a/src/b.rs:2: I-LOG-1 appears in no doc comment"]);
    }

    #[test]
    fn an_assertion_in_a_test_does_not_count() {
        let text =
            "//! `I-A-1` X.\n#[cfg(test)]\nmod tests { fn f() { assert!(x, \"I-A-1\"); } }\n";
        assert_eq!(findings(text).len(), 1);
    }
}
