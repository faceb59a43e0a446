//! Rules for Rust files: module documentation, sizes, and names that do not belong somewhere.
//!
//! Absent on purpose: what clippy forbids by a lint of its own.

use crate::lexer::{Lexed, Part};
use crate::{Finding, SourceFile, Tree};

/// Most lines of a file before its tests.
pub const FILE_LINES_MAX: usize = 600;

/// Most lines of a function, from its `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Where `unsafe` may be written.
const UNSAFE_FILES: &[&str] = &["broker/log/src/disk.rs", "broker/log/src/sys.rs"];

/// What marks unfinished work. Cut in two, so that this file does not break the rule.
const UNFINISHED: &[(&str, &str)] =
    &[("to", "do!"), ("unimple", "mented!"), ("db", "g!"), ("FIX", "ME"), ("XX", "X:")];

/// Crates that get time, randomness and disk from outside.
const PURE: &[&str] = &["protocol/src/", "broker/core/src/", "broker/log/src/"];

/// What a pure crate must not name, and what to use instead.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("thread_rng", "randomness is an argument"),
    ("std::env", "configuration is an argument"),
    ("tokio", "only the body and the client may wait"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("RandomState", "it differs from run to run"),
];

/// Test code is free of the size limits that protect a reader of the product.
#[must_use]
pub fn is_test_file(path: &str) -> bool {
    let inner = path.strip_prefix("tests/").unwrap_or(path);
    let mut parts = inner.split('/');
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
}

/// The part of a file before its unit tests.
#[must_use]
pub fn product_part(file: &SourceFile) -> &str {
    if is_test_file(&file.path) {
        return "";
    }
    let mut at = 0;
    let mut lines = file.text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().map(|next| next.trim_start()).unwrap_or_default();
        let module = next.starts_with("mod ") || next.starts_with("pub(crate) mod ");
        if line.trim_end() == "#[cfg(test)]" && module {
            break;
        }
        at += line.len();
    }
    &file.text[..at]
}

/// Files that do not begin with `//!`.
#[must_use]
pub fn undocumented_files(tree: &Tree) -> Vec<Finding> {
    let wrong = tree.of("rs").filter(|file| !file.text.starts_with("//! "));
    wrong.map(|file| Finding::new(&file.path, 1, "begins without //! documentation")).collect()
}

/// Files with more than [`FILE_LINES_MAX`] lines before their tests.
#[must_use]
pub fn long_files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("rs") {
        let lines = product_part(file).lines().count();
        if lines > FILE_LINES_MAX {
            let message = format!("{lines} lines before its tests, at most {FILE_LINES_MAX}");
            findings.push(Finding::new(&file.path, 0, message));
        }
    }
    findings
}

/// Functions, of tests too, with more than [`FUNCTION_LINES_MAX`] lines.
#[must_use]
pub fn long_functions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("rs") {
        let code = Lexed::new(&file.text).view(Part::Code);
        for (line, lines, name) in functions(&code) {
            if lines > FUNCTION_LINES_MAX {
                let message = format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}");
                findings.push(Finding::new(&file.path, line, message));
            }
        }
    }
    findings
}

/// Marks of unfinished work, in code and in comments.
#[must_use]
pub fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("rs") {
        for (number, line) in file.text.lines().enumerate() {
            for (front, back) in UNFINISHED {
                let mark = format!("{front}{back}");
                if has_word(line, &mark) {
                    findings.push(Finding::new(&file.path, number + 1, format!("{mark} is left")));
                }
            }
        }
    }
    findings
}

/// Clocks, randomness, environment and unordered maps in crates that must be pure.
#[must_use]
pub fn impure_names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure = |file: &&SourceFile| PURE.iter().any(|crate_path| file.path.starts_with(crate_path));
    for file in tree.of("rs").filter(pure) {
        let code = Lexed::new(product_part(file)).view(Part::Code);
        for (number, line) in code.lines().enumerate() {
            for (name, instead) in IMPURE.iter().filter(|(name, _)| has_word(line, name)) {
                findings.push(Finding::new(&file.path, number + 1, format!("{name}: {instead}")));
            }
        }
    }
    findings
}

/// `unsafe` outside of the files that may have it.
#[must_use]
pub fn misplaced_unsafe(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.of("rs").filter(|file| !UNSAFE_FILES.contains(&file.path.as_str())) {
        let code = Lexed::new(&file.text).view(Part::Code);
        for (number, line) in code.lines().enumerate() {
            if has_word(line, "unsafe") || line.contains("allow(unsafe_code") {
                let message = format!("unsafe belongs to {}", UNSAFE_FILES.join(" and "));
                findings.push(Finding::new(&file.path, number + 1, message));
            }
        }
    }
    findings
}

/// Whether `word` stands in `line` with no letter, digit or underscore around it.
#[must_use]
pub fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let open_end = !word.ends_with(char::is_alphanumeric);
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !joins(before) && (open_end || !joins(after))
    })
}

/// (line, number of lines, name) of every function with a body.
fn functions(code: &str) -> Vec<(usize, usize, String)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let joined = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let name: String =
            code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if joined || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&bytes[at..]) {
            let line = code[..at].matches('\n').count() + 1;
            let lines = code[at..at + end].matches('\n').count() + 1;
            found.push((line, lines, name));
        }
    }
    found
}

/// Where the body closes; `None` for a declaration without one.
fn body_end(from_fn: &[u8]) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (at, byte) in from_fn.iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' if braces == 1 => return Some(at),
            b'}' => braces -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree::sample(vec![SourceFile::new(path, text)])
    }

    #[test]
    fn a_file_is_measured_up_to_its_tests() {
        let product = "//! x\n".to_owned() + &"fn f() {}\n".repeat(599);
        let with_tests = product.clone() + "#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(long_files(&tree("a/src/b.rs", &with_tests)), []);
        assert_eq!(long_files(&tree("a/src/b.rs", &(product.clone() + "\n"))).len(), 1);
        assert_eq!(long_files(&tree("a/src/b/tests.rs", &(product + "\n"))), []);
    }

    #[test]
    fn a_workspace_crate_below_tests_is_held_to_the_limit_and_its_tests_are_not() {
        assert!(!is_test_file("tests/tidy/src/lib.rs"));
        assert!(is_test_file("tests/tidy/tests/rules.rs"));
    }

    #[test]
    fn a_function_is_measured_from_fn_to_its_brace() {
        let body = "    g(\"}\", '}'); // }\n".repeat(68);
        let fits = format!("impl X {{\nfn f<T>(a: [u8; 3]) -> T {{\n{body}}}\n}}\n");
        assert_eq!(long_functions(&tree("a.rs", &fits)), []);
        let found = long_functions(&tree("a.rs", &fits.replacen("{\n    g", "{\n\n    g", 1)));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].message.contains("71 lines")), (2, true));
    }

    #[test]
    fn a_declaration_has_no_body() {
        let code = "trait T { fn a(x: [u8; 2]) -> u8;\n fn b() {\n}\n}";
        assert_eq!(functions(code), [(2, 2, "b".to_owned())]);
    }

    #[test]
    fn marks_of_unfinished_work_are_found() {
        let mark = ["to", "do!"].concat();
        assert_eq!(unfinished(&tree("a.rs", &format!("fn f() {{ {mark}() }}"))).len(), 1);
        assert_eq!(unfinished(&tree("a.rs", &format!("fn f() {{ my_{mark}() }}"))), []);
    }

    #[test]
    fn pure_crates_name_no_clock_outside_of_comments_and_tests() {
        let text = "//! no tokio\nfn f() { Instant::now(); }\n#[cfg(test)]\nmod tests { tokio }\n";
        assert_eq!(impure_names(&tree("broker/core/src/a.rs", text)).len(), 1);
        assert_eq!(impure_names(&tree("broker/src/a.rs", text)), []);
    }

    #[test]
    fn unsafe_is_found_in_code_and_not_in_words() {
        let text = "// unsafe\nfn f() { unsafe_like(); }\n";
        assert_eq!(misplaced_unsafe(&tree("a.rs", text)), []);
        assert_eq!(misplaced_unsafe(&tree("a.rs", "fn f() { unsafe { g() } }")).len(), 1);
        let allowed = tree("broker/log/src/sys.rs", "fn f() { unsafe { g() } }");
        assert_eq!(misplaced_unsafe(&allowed), []);
    }

    #[test]
    fn a_file_begins_with_its_purpose() {
        assert_eq!(undocumented_files(&tree("a.rs", "use x;\n")).len(), 1);
        assert_eq!(undocumented_files(&tree("a.rs", "//! Why.\n")), []);
    }
}
