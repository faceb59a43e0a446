//! Messages as trees of field names and values, read out of what `Debug` prints.
//!
//! Two codecs that agree on bytes may still disagree on which field is which; their `Debug` texts
//! tell. Types that print differently on the two sides become alike here. Null, empty text and an
//! empty array count as equal: the bytes have told them apart already, and a field that a version
//! lacks has defaults of our own choice where it may be null.

use std::collections::BTreeMap;

/// One value of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tree {
    Struct(BTreeMap<String, Tree>),
    List(Vec<Tree>),
    Scalar(String),
}

/// Reads the text that `Debug` printed of a message.
pub(super) fn parse(text: &str) -> Tree {
    let mut parser = Parser { text: text.as_bytes(), position: 0 };
    let tree = parser.value();
    assert_eq!(parser.position, text.len(), "left over of {text}");
    tree
}

/// Panics where a field of ours is missing or different on the other side.
pub(super) fn assert_within(ours: &Tree, theirs: &Tree, path: &str) {
    match (ours, theirs) {
        (Tree::Struct(ours), Tree::Struct(theirs)) => {
            for (name, value) in ours {
                let path = format!("{path}.{name}");
                let other = theirs.get(name).unwrap_or_else(|| panic!("{path}: {theirs:?}"));
                assert_within(value, other, &path);
            }
        }
        (Tree::List(ours), Tree::List(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}");
            for (position, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                assert_within(ours, theirs, &format!("{path}[{position}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    position: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.position).copied().unwrap_or(0)
    }

    fn eat(&mut self, expected: u8) -> bool {
        let found = self.peek() == expected;
        self.position += usize::from(found);
        found
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), b' ' | b',') {
            self.position += 1;
        }
    }

    fn until(&mut self, stop: impl Fn(u8) -> bool) -> String {
        let start = self.position;
        while self.position < self.text.len() && !stop(self.peek()) {
            self.position += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.position]).into_owned()
    }

    fn value(&mut self) -> Tree {
        if self.peek() == b'[' {
            return self.list();
        }
        if self.text[self.position..].starts_with(b"b\"") || self.peek() == b'"' {
            return self.quoted();
        }
        let word =
            self.until(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
        self.spaces();
        match self.peek() {
            b'{' => self.structure(&word),
            b'(' => self.wrapped(&word),
            _ if word == "None" => Tree::Scalar(String::new()),
            _ => Tree::Scalar(word),
        }
    }

    fn list(&mut self) -> Tree {
        assert!(self.eat(b'['));
        let mut items = Vec::new();
        while !self.eat(b']') {
            items.push(self.value());
            self.spaces();
        }
        if items.is_empty() { Tree::Scalar(String::new()) } else { Tree::List(items) }
    }

    fn quoted(&mut self) -> Tree {
        self.eat(b'b');
        assert!(self.eat(b'"'));
        let start = self.position;
        while self.peek() != b'"' {
            self.position += if self.peek() == b'\\' { 2 } else { 1 };
        }
        let text = String::from_utf8_lossy(&self.text[start..self.position]).into_owned();
        self.position += 1;
        Tree::Scalar(text)
    }

    fn structure(&mut self, name: &str) -> Tree {
        assert!(self.eat(b'{'));
        let mut fields = BTreeMap::new();
        self.spaces();
        while !self.eat(b'}') {
            let field = self.until(|byte| byte == b':');
            assert!(self.eat(b':'));
            self.spaces();
            fields.insert(field, self.value());
            self.spaces();
        }
        match (name, fields.remove("parts")) {
            ("Chain", Some(Tree::List(parts))) => parts[0].clone(),
            ("Chain", Some(empty)) => empty,
            _ => Tree::Struct(fields),
        }
    }

    fn wrapped(&mut self, name: &str) -> Tree {
        assert!(self.eat(b'('));
        let tree = match name {
            // Ours prints the 32 digits of a UUID, theirs an array of numbers.
            "TopicId" => Tree::Scalar(self.until(|byte| byte == b')').replace('-', "")),
            "Uuid" => {
                let Tree::List(bytes) = self.list() else { panic!("an id has 16 bytes") };
                let hex = bytes.iter().map(|byte| match byte {
                    Tree::Scalar(number) => {
                        format!("{:02x}", number.parse::<u8>().expect("it is a byte"))
                    }
                    other => panic!("{other:?} is no byte"),
                });
                Tree::Scalar(hex.collect())
            }
            // `Some`, the text type of the other side, and our error codes.
            _ => self.value(),
        };
        assert!(self.eat(b')'));
        tree
    }
}

#[test]
fn texts_of_both_sides_become_the_same_tree() {
    let ours = "A { id: TopicId(01020304-0506-0708-090a-0b0c0d0e0f10), name: Some(\"x\"), \
                e: NONE(0), list: [], n: None }";
    let theirs = "B { id: Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]), \
                  name: Some(StrBytes(b\"x\")), e: 0, list: [], n: None, more: C { d: -1 } }";
    assert_within(&parse(ours), &parse(theirs), "message");
}

#[test]
#[should_panic(expected = "message.a")]
fn a_swapped_field_is_found() {
    assert_within(&parse("A { a: 1, b: 2 }"), &parse("A { a: 2, b: 1 }"), "message");
}
