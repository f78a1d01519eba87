//! Stages that no target needs: what has to be right in them, and names that tell stages apart.

use insta::assert_snapshot;
use kiln_core::plan::ContextKind;

use crate::support::{context, request, steps};

fn before(stage: &str) -> String {
    steps(&format!("{stage}\nFROM base\n"), &request())
}

#[test]
fn their_from_lines_have_to_make_sense() {
    assert_snapshot!(before("ARG X\nFROM $X AS a"), @"empty-base 2:6 `$X`: base name ($X) should not be blank");
    assert_snapshot!(before("FROM --platform=a/b/c/d base AS a"), @"invalid-platform 1:17 `a/b/c/d`: failed to parse platform a/b/c/d: `a/b/c/d` is not a platform; write it as `os/architecture[/variant]`, like `linux/arm64`");
    assert_snapshot!(before("FROM Upper AS a"), @r#"invalid-reference 1:6 `Upper`: failed to parse stage name "Upper": invalid reference format: `Upper`: repository name must be lowercase"#);
}

#[test]
fn their_from_flags_have_to_name_something() {
    assert_snapshot!(before("FROM base AS a\nCOPY --from=9 /x /"), @"unknown-stage 2:6 `--from=9`: invalid stage index 9: the stages have the numbers 0 to 1");
    assert_snapshot!(before("FROM base AS a\nCOPY --from=$x /x /"), @r"
        variable-in-from 2:13 `$x`: variable expansion is not supported for --from
          help: define a stage with `FROM` and an ARG before the first FROM, and name that stage
        ");
    assert_snapshot!(before("FROM base AS a\nCOPY --from=Up /x /"), @r#"invalid-reference 2:6 `--from=Up`: failed to parse stage name "Up": invalid reference format: `Up`: repository name must be lowercase"#);
    assert_snapshot!(before("FROM base AS a\nRUN --mount=from=Up,target=/m x"), @r#"invalid-reference 2:5 `--mount=from=Up,target=/m`: failed to parse stage name "Up": invalid reference format: `Up`: repository name must be lowercase"#);
}

#[test]
fn stages_in_a_circle_are_refused_even_when_no_target_needs_them() {
    let file = "FROM base AS a\nCOPY --from=b /x /\nFROM base AS b\nRUN --mount=from=a,target=/m x";
    assert_snapshot!(before(file), @r"
        circular-stages 2:6 `--from=b`: circular dependency detected on stage: a
          help: a stage can use only the stages before it
        ");
}

#[test]
fn from_does_not_change_case_but_copy_does() {
    assert_snapshot!(steps("FROM base AS Tool\nFROM Tool\n", &request()), @r#"invalid-reference 2:6 `Tool`: failed to parse stage name "Tool": invalid reference format: `Tool`: repository name must be lowercase"#);
    assert_snapshot!(steps("FROM base AS Tool\nRUN a\nFROM tool\nCOPY --from=TOOL /x /y\n", &request()), @r##"
        #0 image base:latest
        #1 on #0: run "a"
        #2 on #1: copy #1:/x -> /y
        1 linux/amd64 = #2
        "##);
}

#[test]
fn a_name_means_the_last_stage_that_has_it() {
    let twice =
        "FROM base AS a\nRUN one\nFROM base AS a\nRUN two\nFROM scratch\nCOPY --from=a /x /\n";
    assert_snapshot!(steps(twice, &request()), @r##"
        #0 image base:latest
        #1 on #0: run "two"
        #2 on scratch: copy #1:/x -> /
        2 linux/amd64 = #2
        "##);
    let later =
        "FROM base AS a\nFROM base AS user\nCOPY --from=a /x /\nFROM base AS a\nFROM user\n";
    assert_snapshot!(steps(later, &request()), @r#"unknown-stage 3:6 `--from=a`: cannot copy from stage "a", it needs to be defined before current stage "user""#);
}

#[test]
fn a_number_is_no_stage_to_a_mount() {
    let file = "FROM base AS a\nFROM base\nRUN --mount=from=0,target=/m x\n";
    assert_snapshot!(steps(file, &request()), @r##"
        #0 image base:latest
        #1 image 0:latest
        #2 on #0: run "x"
            bind #1:/ /m ro
        1 linux/amd64 = #2
        "##);
}

#[test]
fn no_context_stands_in_for_scratch() {
    let request = context("scratch", ContextKind::Directory);
    assert_snapshot!(steps("FROM scratch\nCOPY f /\n", &request), @r##"
        #0 context
        #1 on scratch: copy #0:/f -> /
        0 linux/amd64 = #1
        "##);
}
