//! The text of the file of contexts: the few forms of TOML that it has.
//!
//! A line is empty, a comment, `key = "text"`, or `[contexts.name]`; a comment may follow.
//!
//! Absent on purpose: other forms of TOML, and comments in what is written.

use super::{CONTEXTS_MAX, Context, Contexts};
use std::fmt::Write;

const NAME_CHARACTERS_MAX: usize = 64;

/// Line, from 1, and what is wrong with it.
type Fault = (usize, String);

/// Whether a text can stand as a key without quotes.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.chars().all(legal)
}

pub(super) fn parse(text: &str) -> Result<Contexts, Fault> {
    let mut contexts = Contexts::default();
    for (index, line) in text.lines().enumerate() {
        let fault = |reason: String| (index + 1, reason);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split_once(']').filter(|(_, rest)| is_end(rest));
            let name = name.and_then(|(name, _)| name.trim().strip_prefix("contexts."));
            let context = name.and_then(|name| Context::new(name).ok());
            let expected = || fault("expected is `[contexts.name]`".to_owned());
            let context = context.ok_or_else(expected)?;
            if contexts.get(&context.name).is_some() {
                return Err(fault(format!("[contexts.{}] is there twice", context.name)));
            }
            if contexts.contexts.len() == CONTEXTS_MAX {
                return Err(fault(format!("more than {CONTEXTS_MAX} contexts")));
            }
            contexts.contexts.push(context);
            continue;
        }
        let (key, value) = entry(line).ok_or_else(|| {
            fault("expected is `key = \"text\"`, `[contexts.name]` or a comment".to_owned())
        })?;
        match contexts.contexts.last_mut() {
            Some(context) => {
                context.set(key, value).map_err(|error| fault(error.to_string()))?;
            }
            None if key == "current" => contexts.current = Some(value),
            None if key == "previous" => contexts.previous = Some(value),
            None => contexts.other.push((key, value)),
        }
    }
    Ok(contexts)
}

pub(super) fn render(contexts: &Contexts) -> String {
    let mut text = "# Known brokers. `bateau dev` writes its own entry here.\n".to_owned();
    if let Some(current) = &contexts.current {
        line(&mut text, "current", current);
    }
    if let Some(previous) = &contexts.previous {
        line(&mut text, "previous", previous);
    }
    for (key, value) in &contexts.other {
        line(&mut text, key, value);
    }
    for context in contexts.iter() {
        write!(text, "\n[contexts.{}]\n", context.name).expect("a String has room");
        for (key, value) in context.entries() {
            line(&mut text, key, &value);
        }
    }
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push_str(" = \"");
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => {
                write!(text, "\\u{:04X}", u32::from(control)).expect("a String has room");
            }
            _ => text.push(character),
        }
    }
    text.push_str("\"\n");
}

/// `key = "text"`, with nothing behind it but a comment.
fn entry(line: &str) -> Option<(String, String)> {
    let (key, rest) = line.split_once('=')?;
    let key = key.trim();
    let mut characters = rest.trim_start().strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => value.push(escaped(&mut characters)?),
            control if control.is_control() => return None,
            character => value.push(character),
        }
    }
    (is_name(key) && is_end(characters.as_str())).then(|| (key.to_owned(), value))
}

fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match characters.next()? {
        'n' => '\n',
        't' => '\t',
        same @ ('"' | '\\') => same,
        'u' => {
            let digits = characters.as_str().get(..4)?;
            *characters = characters.as_str().get(4..)?.chars();
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
        }
        _ => return None,
    })
}

fn is_end(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}
