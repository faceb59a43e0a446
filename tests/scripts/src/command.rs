//! One line of a script, taken apart.
//!
//! ```text
//! produce orders/0 producer=7 seq=0 "a"        name, arguments, options
//! ```
//!
//! Absent on purpose: what a command does.

use std::collections::BTreeMap;
use std::str::FromStr;

/// A command: a name, arguments in order, options by key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The first word.
    pub name: String,
    /// Words without `=`, and quoted texts.
    pub arguments: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Command {
    /// Takes a line apart. Stops the test where it cannot be read.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut words = words(line).into_iter();
        let name = words.next().unwrap_or_default().text;
        let (mut arguments, mut options) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.text.split_once('=') {
                Some((key, value)) if !word.is_quoted => {
                    let before = options.insert(key.to_owned(), value.to_owned());
                    assert!(before.is_none(), "option {key} comes twice");
                }
                _ => arguments.push(word.text),
            }
        }
        Self { name, arguments, options }
    }

    /// The argument at a place. Stops the test where it is missing.
    #[must_use]
    pub fn argument(&self, place: usize) -> &str {
        self.arguments.get(place).unwrap_or_else(|| panic!("{} lacks an argument", self.name))
    }

    /// Takes an option; its absence is `None`.
    pub fn take<T: FromStr>(&mut self, key: &str) -> Option<T> {
        let text = self.options.remove(key)?;
        let value = text.parse().ok();
        Some(value.unwrap_or_else(|| panic!("option {key}={text} cannot be read")))
    }

    /// Takes an option that is a span of time, in milliseconds: `500ms`, `30s`, `2m`, `1h`, `7d`.
    pub fn take_ms(&mut self, key: &str) -> Option<u64> {
        self.take::<String>(key).map(|text| milliseconds(&text))
    }

    /// Takes an option that is a number of bytes: `100`, `4KiB`, `16MiB`.
    pub fn take_bytes(&mut self, key: &str) -> Option<usize> {
        self.take::<String>(key).map(|text| bytes(&text))
    }

    /// Takes all options that are left, by key.
    pub fn take_rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.options).into_iter().collect()
    }

    /// Stops the test where an option was not understood.
    pub fn finish(&self) {
        assert!(self.options.is_empty(), "{} has no options {:?}", self.name, self.options);
    }
}

/// A span of time in milliseconds.
#[must_use]
pub fn milliseconds(text: &str) -> u64 {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    with_unit(text, &units)
}

fn bytes(text: &str) -> usize {
    let units = [("KiB", 1024), ("MiB", 1024 * 1024), ("", 1)];
    usize::try_from(with_unit(text, &units)).unwrap()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> u64 {
    let found = units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    found.unwrap_or_else(|| panic!("{text} is no quantity"))
}

#[derive(Default)]
struct Word {
    text: String,
    is_quoted: bool,
}

fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (place, part) in line.split('"').enumerate() {
        if place % 2 == 1 {
            words.push(Word { text: part.to_owned(), is_quoted: true });
        } else {
            let plain = part.split_whitespace();
            words.extend(plain.map(|text| Word { text: text.to_owned(), is_quoted: false }));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_arguments_and_options() {
        let mut command = Command::parse("produce orders/0 producer=7 timeout=2m \"a = b\"");
        assert_eq!(command.name, "produce");
        assert_eq!(command.arguments, ["orders/0", "a = b"]);
        assert_eq!(command.take::<i64>("producer"), Some(7));
        assert_eq!(command.take_ms("timeout"), Some(120_000));
        assert_eq!(command.take::<i64>("seq"), None);
        command.finish();
    }
}
