//! How a command of the command line fails: an exit code, and what stderr says.
//!
//! Two shapes: a line of its own (`error: node.toml: cannot be read`), or an error of the
//! catalogue with cause, fix and where to read on ([`super::codes`]).
//!
//! Absent on purpose: colours. The first word says that it is an error.

use super::codes::Code;
use crate::exit::{Exit, Failure};
use std::fmt::Write as _;

/// A command that did not end well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    /// What the process ends with.
    pub(super) exit: Exit,
    code: Option<&'static Code>,
    message: String,
    cause: Option<String>,
    fix: Option<String>,
    /// Further ones of the same command.
    more: Vec<Self>,
}

impl Fault {
    /// A fault without a code: usage, or a line that says everything.
    pub(super) fn plain(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), cause: None, fix: None, more: Vec::new() }
    }

    /// What was typed cannot be carried out.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::plain(Exit::Usage, message)
    }

    /// An error of the catalogue.
    ///
    /// - `subject`: what it is about, such as a topic's name; it stands before the title.
    pub(super) fn of(code: &'static Code, subject: impl std::fmt::Display) -> Self {
        let message = format!("{}: {}", escaped(&subject.to_string()), code.title);
        Self {
            exit: code.exit,
            code: Some(code),
            message,
            cause: None,
            fix: None,
            more: Vec::new(),
        }
    }

    /// The cause as it is known in this case.
    pub(super) fn because(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(escaped(&cause.to_string())), ..self }
    }

    /// The fix as it is known in this case.
    pub(super) fn mend(self, fix: impl std::fmt::Display) -> Self {
        Self { fix: Some(escaped(&fix.to_string())), ..self }
    }

    /// Several things went wrong; the first one decides the exit code. Nothing is no fault.
    pub(super) fn several(faults: Vec<Self>) -> Result<(), Self> {
        let mut faults = faults.into_iter();
        match faults.next() {
            None => Ok(()),
            Some(first) => Err(Self { more: faults.collect(), ..first }),
        }
    }

    /// What stderr says, with line ends.
    pub(super) fn report(&self) -> String {
        let more: String = self.more.iter().map(Self::report).collect();
        self.own_report() + &more
    }

    fn own_report(&self) -> String {
        let mut text = String::new();
        let Some(code) = self.code else {
            for line in self.message.lines() {
                let _ = writeln!(text, "error: {line}");
            }
            return text;
        };
        let cause = self.cause.as_deref().unwrap_or(code.cause);
        let fix = self.fix.as_deref().unwrap_or(code.fix);
        let _ = writeln!(text, "error[{}]: {}", code.id, self.message);
        let _ = writeln!(text, "  cause  {cause}\n  fix    {fix}");
        let _ = writeln!(text, "  why    bateau explain {}", code.id);
        text
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::plain(failure.exit, failure.message)
    }
}

/// Names come from the network: what steers a terminal is shown, not sent.
pub(super) fn escaped(text: &str) -> String {
    let steers = |letter: char| letter.is_control();
    match text.contains(steers) {
        false => text.to_owned(),
        true => text
            .chars()
            .flat_map(|letter| match steers(letter) {
                true => letter.escape_default().collect::<Vec<_>>(),
                false => vec![letter],
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::codes;

    #[test]
    fn an_error_of_the_catalogue_says_cause_fix_and_where_to_read_on() {
        let fault = Fault::of(&codes::UNKNOWN_TOPIC, "orderz").because("the nearest is orders");
        let expected = "error[E1001]: orderz: no such topic\n  cause  the nearest is orders\n  \
                        fix    bateau topic list\n  why    bateau explain E1001\n";
        assert_eq!(fault.report(), expected);
        assert_eq!(fault.exit, Exit::NotFoundOrHeld);
    }

    #[test]
    fn the_first_of_several_faults_decides_the_exit_code() {
        assert_eq!(Fault::several(Vec::new()), Ok(()));
        let faults = vec![Fault::of(&codes::UNKNOWN_TOPIC, "a"), Fault::usage("b")];
        let fault = Fault::several(faults).unwrap_err();
        assert_eq!(fault.exit, Exit::NotFoundOrHeld);
        assert!(fault.report().ends_with("E1001\nerror: b\n"), "{}", fault.report());
    }

    #[test]
    fn each_line_of_a_plain_fault_is_an_error() {
        let fault = Fault::usage("one\ntwo");
        assert_eq!(fault.report(), "error: one\nerror: two\n");
    }

    #[test]
    fn names_from_the_network_cannot_steer_the_terminal() {
        let fault = Fault::of(&codes::UNKNOWN_TOPIC, "a\u{1b}[2Jb\nc");
        assert!(fault.report().starts_with("error[E1001]: a\\u{1b}[2Jb\\nc: no such topic\n"));
    }
}
