//! Which parts of a Rust file are code, comments, documentation and literals.
//!
//! Just enough of the language for rules that look for names, braces and comments: every byte
//! belongs to one part, and a view of some parts keeps every line where it was.
//!
//! Absent on purpose: tokens and syntax trees.

/// What a byte of a file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Everything else.
    Code,
    /// A comment that is no documentation.
    Comment,
    /// `///`, `//!`.
    Documentation,
    /// A string or character, with its quotes.
    Literal,
}

/// A file cut into parts.
pub struct Lexed<'a> {
    text: &'a str,
    parts: Vec<Part>,
}

impl<'a> Lexed<'a> {
    /// Cuts a file. An unclosed literal or comment reaches to the end.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut parts = Vec::with_capacity(bytes.len());
        while parts.len() < bytes.len() {
            let rest = &bytes[parts.len()..];
            let before = parts.len().checked_sub(1).map(|at| bytes[at]);
            let (part, length) = next_part(rest, before);
            parts.resize(parts.len() + length.min(rest.len()), part);
        }
        Self { text, parts }
    }

    /// The file with everything but `wanted` blanked; line breaks stay.
    #[must_use]
    pub fn view(&self, wanted: Part) -> String {
        let keep = |(at, c): (usize, char)| {
            if c == '\n' || self.parts[at] == wanted { c } else { ' ' }
        };
        self.text.char_indices().map(keep).collect()
    }
}

/// The part that `rest` begins with, and its length in bytes.
fn next_part(rest: &[u8], before: Option<u8>) -> (Part, usize) {
    let inside_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => {
            let end = find(rest, b"\n").unwrap_or(rest.len());
            let documents = match &rest[..end] {
                [b'/', b'/', b'/', b'/', ..] => false,
                [b'/', b'/', b'/' | b'!', ..] => true,
                _ => false,
            };
            (if documents { Part::Documentation } else { Part::Comment }, end)
        }
        [b'/', b'*', ..] => (Part::Comment, block_comment(rest)),
        [b'"', ..] => (Part::Literal, quoted(rest, 1)),
        [b'b' | b'c', b'"', ..] if !inside_word => (Part::Literal, quoted(rest, 2)),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_word => raw_string(rest, 2),
        [b'r', b'"' | b'#', ..] if !inside_word => raw_string(rest, 1),
        [b'\'', b'\\', ..] => (Part::Literal, 3 + find(&rest[3..], b"'").map_or(0, |at| at + 1)),
        [b'\'', ..] => match character(rest) {
            Some(length) => (Part::Literal, length),
            None => (Part::Code, 1),
        },
        _ => (Part::Code, 1),
    }
}

/// Length of `'x'`; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let close = find(&rest[1..rest.len().min(6)], b"'")? + 1;
    let one = std::str::from_utf8(&rest[1..close]).ok()?.chars().count() == 1;
    one.then_some(close + 1)
}

fn quoted(rest: &[u8], mut at: usize) -> usize {
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and so on; a raw identifier is code.
fn raw_string(rest: &[u8], prefix: usize) -> (Part, usize) {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return (Part::Code, open);
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let end = find(&rest[open + 1..], &close).map_or(rest.len(), |at| open + 1 + at + close.len());
    (Part::Literal, end)
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> [String; 3] {
        let lexed = Lexed::new(text);
        let squeezed = |part| {
            let view = lexed.view(part);
            view.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        [squeezed(Part::Code), squeezed(Part::Documentation), squeezed(Part::Literal)]
    }

    #[test]
    fn code_comments_documentation_and_literals_are_told_apart() {
        let text =
            "//! what\n/// this\nfn f() { // no /* \n g(\"a // \\\" b\"); /* x /* y */ z */ }";
        let [code, documentation, literal] = parts(text);
        assert_eq!(code, "fn f() { g( ); }");
        assert_eq!(documentation, "//! what /// this");
        assert_eq!(literal, r#""a // \" b""#);
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_literals() {
        let [code, _, literal] = parts("fn f<'a>(x: &'a str) { m('{', '\\'', '\u{e9}', b'\"') }");
        assert_eq!(code, "fn f<'a>(x: &'a str) { m( , , , b ) }");
        assert_eq!(literal, "'{' '\\'' '\u{e9}' '\"'");
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let [code, _, literal] = parts("a(r#\"x\" // { \"#, br\"y\\\", r#type)");
        assert_eq!(code, "a( , , r#type)");
        assert_eq!(literal, "r#\"x\" // { \"# br\"y\\\"");
    }
}
