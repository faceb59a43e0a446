//! Script files: commands, what they print, and how a changed print is taken over.
//!
//! ```text
//! # A comment, kept as it is.
//! produce orders/0 "a"
//! flush
//! ---
//! write orders/0 [3 records 0]
//! #1 ack orders/0 offset=0
//! ```
//!
//! Blocks are separated by an empty line. With `SCRIPTS_WRITE=1` in the environment the printed
//! lines are written into the files, to be looked at in the diff.
//!
//! Absent on purpose: what the commands do.

use crate::run::Runner;
use std::fs;
use std::path::Path;

/// Commands and what they are expected to print.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// Comments and commands, as they were written.
    pub commands: Vec<String>,
    /// Printed lines.
    pub expected: Vec<String>,
}

const RULE: &str = "---";

/// Runs one script file.
///
/// Errors: what was printed, where it is not what the file says.
pub fn check_script(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut runner = Runner::new();
    let blocks: Vec<Block> = parse(&text)
        .into_iter()
        .map(|block| {
            let expected = runner.run(&block.commands);
            Block { expected, ..block }
        })
        .collect();
    runner.finish();
    let printed = print(&blocks);
    if printed == text {
        return Ok(());
    }
    if std::env::var_os("SCRIPTS_WRITE").is_some() {
        return fs::write(path, printed).map_err(|error| error.to_string());
    }
    Err(difference(path, &text, &printed))
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block::default();
    let mut is_output = false;
    for line in text.lines() {
        match line {
            "" if is_output => {
                blocks.push(std::mem::take(&mut block));
                is_output = false;
            }
            RULE => is_output = true,
            _ if is_output => block.expected.push(line.to_owned()),
            _ => block.commands.push(line.to_owned()),
        }
    }
    if !block.commands.is_empty() {
        blocks.push(block);
    }
    blocks
}

fn print(blocks: &[Block]) -> String {
    let one = |block: &Block| {
        let lines = block.commands.iter().map(String::as_str).chain([RULE]);
        let lines = lines.chain(block.expected.iter().map(String::as_str));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    blocks.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn difference(path: &Path, expected: &str, printed: &str) -> String {
    let mut report = format!("{} prints something else:\n", path.display());
    let at = expected.lines().zip(printed.lines()).take_while(|(a, b)| a == b).count();
    let from = at.saturating_sub(3);
    for (mark, text) in [("-", expected), ("+", printed)] {
        for line in text.lines().skip(from).take(at - from + 12) {
            report.push_str(&format!("{mark} {line}\n"));
        }
    }
    report.push_str("SCRIPTS_WRITE=1 takes it over\n");
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_prints_as_it_was() {
        let text = "# Why.\ntopic orders\n---\ncreate orders/0\n\nflush\n---\n";
        let blocks = parse(text);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].expected, ["create orders/0"]);
        assert_eq!(print(&blocks), text);
    }
}
