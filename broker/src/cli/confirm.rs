//! Asking before something is destroyed: the name is typed, not `y`.
//!
//! ```text
//!   --yes ──────────────► go on
//!   stdin a terminal ───► "Type orders to delete …:" ──► the same name? go on : E1199
//!   otherwise ──────────► exit code 2, which names --yes
//! ```
//!
//! Absent on purpose: a setting that answers for good.

use super::codes::ABORTED;
use super::fault::{Fault, escaped};
use std::io::{BufRead, IsTerminal, Write};

/// Who may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asking {
    /// `--yes` has answered.
    Answered,
    /// A person sits there.
    Person,
    /// A script runs.
    Nobody,
}

impl Asking {
    /// From the flag and the terminal.
    pub(super) fn new(yes: bool) -> Self {
        match (yes, std::io::stdin().is_terminal()) {
            (true, _) => Self::Answered,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }

    /// Returns when `deed` may be done to `name`.
    pub(super) fn confirm(self, deed: &str, name: &str) -> Result<(), Fault> {
        let stdin = std::io::stdin().lock();
        self.confirm_with(deed, name, stdin, std::io::stderr().lock())
    }

    fn confirm_with(
        self,
        deed: &str,
        name: &str,
        mut typed: impl BufRead,
        mut said: impl Write,
    ) -> Result<(), Fault> {
        match self {
            Self::Answered => return Ok(()),
            Self::Nobody => {
                let line = format!("{deed} {name}: nobody can be asked here; say --yes");
                return Err(Fault::usage(escaped(&line)));
            }
            Self::Person => {}
        }
        // A question that cannot be shown or answered is answered by no.
        let mut line = String::new();
        let asked =
            write!(said, "Type {} to {deed} it: ", escaped(name)).and_then(|()| said.flush());
        let answered = asked.and_then(|()| typed.read_line(&mut line)).is_ok();
        match answered && line.trim_end_matches(['\r', '\n']) == name {
            true => Ok(()),
            false => Err(Fault::of(&ABORTED, format!("{deed} {name}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn asked(asking: Asking, typed: &str) -> (Option<Exit>, String) {
        let mut said = Vec::new();
        let done = asking.confirm_with("delete", "orders", typed.as_bytes(), &mut said);
        (done.err().map(|fault| fault.exit), String::from_utf8(said).unwrap())
    }

    #[test]
    fn a_person_types_the_name() {
        let question = "Type orders to delete it: ".to_owned();
        assert_eq!(asked(Asking::Person, "orders\n"), (None, question.clone()));
        for wrong in ["y\n", "yes\n", "order\n", "orders \n", ""] {
            assert_eq!(asked(Asking::Person, wrong), (Some(Exit::Failed), question.clone()));
        }
    }

    #[test]
    fn a_script_says_yes_or_is_refused() {
        assert_eq!(asked(Asking::Answered, ""), (None, String::new()));
        assert_eq!(asked(Asking::Nobody, "orders\n"), (Some(Exit::Usage), String::new()));
    }
}
