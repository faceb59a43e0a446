//! `bateau completion SHELL`: the script that completes commands and flags.
//!
//! Absent on purpose: names of topics and groups. A shell asks at every key, and a broker that is
//! far away would make typing wait.

use super::Arguments;
use super::fault::Fault;
use super::output::print;
use crate::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau completion bash > bateau.bash
  bateau completion zsh > _bateau
  bateau completion fish > bateau.fish
  bateau completion powershell > bateau.ps1";

pub(super) fn run(shell: Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "bateau", &mut script);
    let text = String::from_utf8(script);
    let text = text.map_err(|error| Fault::plain(Exit::Failed, error.to_string()))?;
    print(&text)
}
