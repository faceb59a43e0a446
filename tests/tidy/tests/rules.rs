//! The rules, applied to this tree: one test per rule, all findings in its message.

use std::sync::LazyLock;
use tidy::packages::{self, Packages, Policy};
use tidy::{Finding, Tree, docs, formats, invariants, kafka_api, rust, text};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::load);
static PACKAGES: LazyLock<Packages> = LazyLock::new(Packages::load);

#[track_caller]
fn nothing_in(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

macro_rules! rules {
    ($($name:ident: $findings:expr;)*) => {
        $(#[test]
        fn $name() {
            nothing_in($findings);
        })*
    };
}

rules! {
    lines_have_at_most_100_columns: text::long_lines(&TREE);
    nothing_names_a_place_of_one_machine: text::machine_places(&TREE);
    packages_come_from_public_registries: text::package_hosts(&TREE);
    files_begin_with_their_purpose: rust::undocumented_files(&TREE);
    files_have_at_most_600_lines_before_their_tests: rust::long_files(&TREE);
    functions_have_at_most_70_lines: rust::long_functions(&TREE);
    no_work_is_left_unfinished: rust::unfinished(&TREE);
    pure_crates_get_time_chance_and_disk_from_outside: rust::impure_names(&TREE);
    unsafe_is_in_two_files: rust::misplaced_unsafe(&TREE);
    pages_have_one_title: docs::titles(&TREE);
    links_resolve: docs::links(&TREE);
    commands_on_pages_are_known_to_tests: docs::commands(&TREE);
    format_pages_describe_the_code_of_today: formats::stale_pages(&TREE);
    invariants_are_written_and_asserted: invariants::half_kept(&TREE);
    api_ranges_on_the_page_are_the_code_s: kafka_api::ranges(&TREE);
    an_api_is_named_in_two_files_of_protocol: kafka_api::scattered_names(&TREE);
    the_dependency_table_is_cargo_s: packages::arrows(&TREE, &PACKAGES);
    the_supply_chain_is_the_agreed_one: packages::supply_chain(&PACKAGES, &Policy::load(&TREE));
}
