//! The binary from outside: exit codes, and what goes to stdout and to stderr.
//!
//! Absent on purpose: a running node; the client programs have one.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary with nothing of this process's environment that could reach it.
fn bateau(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bateau"));
    command.env_clear().args(arguments);
    command.output().expect("the binary can be started")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the binary prints UTF-8")
}

/// Expects a refusal: the code, nothing on stdout, and this on stderr.
#[track_caller]
fn refused(arguments: &[&str], code: i32, stderr: &str) {
    let output = bateau(arguments);
    assert_eq!(text(&output.stderr), stderr);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(code));
}

fn file(directory: &Path, content: &str) -> String {
    let path = directory.join("node.toml");
    std::fs::write(&path, content).expect("a temporary directory can be written");
    path.to_string_lossy().into_owned()
}

#[test]
fn the_version_is_an_object_in_a_pipe_and_a_line_on_request() {
    let version = env!("CARGO_PKG_VERSION");
    let piped = bateau(&["version"]);
    assert_eq!(text(&piped.stdout), format!("{{\"version\":\"{version}\"}}\n"));
    assert_eq!(piped.status.code(), Some(0));
    assert_eq!(text(&bateau(&["version", "-o", "text"]).stdout), format!("bateau {version}\n"));
    assert_eq!(text(&bateau(&["--version"]).stdout), format!("bateau {version}\n"));
}

#[test]
fn commands_of_later_builds_are_usage_errors() {
    for arguments in [&["acl", "list"][..], &["doctor"], &["bench"], &[]] {
        let output = bateau(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage:"), "{arguments:?}");
    }
}

#[test]
fn dev_refuses_what_this_build_lacks_by_name() {
    refused(
        &["dev", "-X", "auth.required=true"],
        2,
        "error: auth.required = true (-X): this build has no authentication\n",
    );
}

#[test]
fn serve_refuses_test_control_whatever_its_file_says() {
    let output = bateau(&["serve", "--config", "no-such-file.toml", "--test-control"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(said.starts_with("error[E2001]: --test-control: test control is for dev"), "{said}");
}

#[test]
fn a_flag_with_a_bad_address_is_named_as_it_was_typed() {
    refused(
        &["dev", "--kafka", "here"],
        2,
        "error: listeners.kafka = here (--kafka): allowed is an address such as \
         127.0.0.1:9092, [::1]:9092 or localhost:9092, or \"off\"\n",
    );
}

#[test]
fn ephemeral_data_has_no_place_of_its_own() {
    let output = bateau(&["dev", "--ephemeral", "--data-dir", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot be used with"), "{}", text(&output.stderr));
}

#[test]
fn serve_needs_a_file_that_it_can_read() {
    refused(
        &["serve", "--config", "nowhere/node.toml"],
        2,
        "error: nowhere/node.toml: cannot be read: No such file or directory (os error 2)\n",
    );
    assert_eq!(bateau(&["serve"]).status.code(), Some(2));
}

#[test]
fn a_wrong_file_stops_serve_and_check_alike() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "[topics]\npartitions_defualt = 4\n");
    let expected = format!(
        "error: topics.partitions_defualt = 4 ({path}:2): no such key; the nearest is \
         topics.partitions_default, 1 to 10000\n"
    );
    refused(&["serve", "--config", &path], 2, &expected);
    refused(&["config", "check", &path], 2, &expected);
}

#[test]
fn check_accepts_a_good_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "[listeners]\nnative = \"127.0.0.1:9443\"\n");
    let output = bateau(&["config", "check", &path]);
    assert_eq!(text(&output.stdout), "{\"ok\":true}\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn explain_names_value_origin_default_and_range() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "[topics]\npartitions_default = 4\n");
    let key = "topics.partitions_default";
    let arguments = ["config", "explain", key, "--config", &path, "-o", "text"];
    let expected = format!(
        "topics.partitions_default = 4\n  origin   {path}:2\n  default  1\n  \
         allowed  1 to 10000\n  Partitions of a topic whose creator names no number.\n"
    );
    assert_eq!(text(&bateau(&arguments).stdout), expected);
    refused(
        &["config", "explain", "topics.partition"],
        2,
        "error: topics.partition: no such key; the nearest is topics.partitions_default\n",
    );
}

#[test]
fn dumping_a_segment_that_is_not_there_is_not_found() {
    refused(
        &["log", "dump", "nowhere.log"],
        3,
        "error: nowhere.log: No such file or directory (os error 2)\n",
    );
}

#[test]
fn a_completion_script_knows_every_command_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = bateau(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        for command in ["produce", "consume", "topic", "group", "exit-at-end"] {
            assert!(text(&output.stdout).contains(command), "{shell} does not know {command}");
        }
    }
    assert_eq!(bateau(&["completion", "tcsh"]).status.code(), Some(2));
}

#[test]
fn an_error_code_is_explained() {
    let output = bateau(&["explain", "e1001", "-o", "table"]);
    assert!(text(&output.stdout).starts_with("E1001  no such topic\n  cause  "));
    let listed = bateau(&["explain"]);
    let first: serde_json::Value =
        serde_json::from_str(text(&listed.stdout).lines().next().expect("there are codes"))
            .expect("a line is an object");
    assert_eq!((&first["code"], &first["exit"]), (&"E0101".into(), &6.into()));
    refused(&["explain", "E9999"], 3, "error: E9999: no such code; bateau explain lists them\n");
}

#[test]
fn colours_are_for_terminals_or_on_request() {
    let help = |variable: Option<(&str, &str)>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bateau"));
        command.env_clear().arg("--help").envs(variable);
        let output = command.output().expect("the binary can be started");
        text(&output.stdout).contains('\u{1b}')
    };
    assert!(!help(None));
    assert!(help(Some(("CLICOLOR_FORCE", "1"))));
    assert!(!help(Some(("NO_COLOR", "1"))));
}

#[test]
fn what_destroys_is_not_done_where_nobody_can_be_asked() {
    refused(
        &["topic", "delete", "orders"],
        2,
        "error: delete orders: nobody can be asked here; say --yes\n",
    );
}

#[test]
fn commands_need_somebody_to_trust() {
    let output = bateau(&["status", "--broker", "192.0.2.1:9443"]);
    assert_eq!(output.status.code(), Some(4));
    let begin = "error[E0202]: 192.0.2.1:9443: nothing says which certificate to expect\n";
    assert!(text(&output.stderr).starts_with(begin), "{}", text(&output.stderr));
}

#[test]
fn every_command_stands_on_one_page_with_its_scope_and_impact() {
    let output = bateau(&["--help-llm"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let page = text(&output.stdout);
    assert!(page.contains("\ntopic list "), "{page}");
    let deletes = page.lines().filter(|line| line.contains(" | destructive | "));
    let names = deletes.filter_map(|line| line.split(" <").next()?.split(" --").next());
    let names: Vec<_> = names.collect();
    let expected = [
        "topic delete",
        "group delete",
        "node remove",
        "node replace",
        "node unsafe-recover",
        "ctx delete",
    ];
    assert_eq!(names, expected);
    assert_eq!(text(&bateau(&["--help-llm", "status"]).stdout), page, "as with --help");
}
