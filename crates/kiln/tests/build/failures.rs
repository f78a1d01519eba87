//! What goes wrong, as the user sees it.

use crate::fixture::Project;

fn failure(dockerfile: &str) -> String {
    Project::new(dockerfile).failure(&[])
}

macro_rules! check {
    ($shown:expr, @$expected:literal) => {
        insta::assert_snapshot!($shown, @$expected)
    };
}

#[test]
fn a_command_that_fails() {
    let shown = failure(
        "FROM base AS one\nRUN true\n\nRUN for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do echo $n; done; \\\n    echo why >&2; exit 7\n",
    );
    check!(shown, @"");
}

#[test]
fn a_command_that_is_killed() {
    check!(failure("FROM base\nRUN kill -9 $$\n"), @"");
}

#[test]
fn a_program_that_is_not_there() {
    check!(failure("FROM base\nRUN [\"/no/such\", \"program\"]\n"), @"");
    check!(failure("FROM base\nRUN nosuchprogram\n"), @"");
    check!(failure("FROM scratch\nRUN echo hello\n"), @"");
}

#[test]
fn a_file_that_is_not_there() {
    check!(failure("FROM base\nCOPY missing /\n"), @"");
    check!(failure("FROM base\nCOPY --from=base /missing /\n"), @"");
    check!(failure("FROM base\nRUN --mount=type=bind,source=missing,target=/m true\n"), @"");
    let project = Project::new("FROM base\nCOPY secret.txt /\n");
    project.write("app/secret.txt", "");
    project.write("app/.dockerignore", "secret.*\n");
    check!(project.failure(&[]), @"");
}

#[test]
fn a_file_where_a_directory_is() {
    let project = Project::new("FROM base\nCOPY f /bin/sh/\n");
    project.write("app/f", "");
    check!(project.failure(&[]), @"");
    project.dockerfile("FROM base\nCOPY d /bin/busybox\n");
    project.write("app/d/x", "");
    check!(project.failure(&[]), @"");
    project.dockerfile("FROM base\nWORKDIR /bin/busybox/x\n");
    check!(project.failure(&[]), @"");
}

#[test]
fn a_stage_that_is_not_there() {
    let project = Project::new("FROM base AS builder\nFROM base\nCOPY --from=biulder /etc /etc\n");
    check!(project.failure(&["--target=bilder"]), @"");
    let run = project.failure(&[]);
    assert!(run.contains("biulder"), "{run}");
}

#[test]
fn a_user_that_is_not_there() {
    check!(failure("FROM base\nUSER nobody-knows\nRUN true\n"), @"");
    check!(failure("FROM scratch\nCOPY --chown=alice Dockerfile /\n"), @"");
}

#[test]
fn several_errors_at_once() {
    check!(failure("FROM base\nRUM true\nCOPY --form=x a b\nEXPOSE\n"), @"");
    check!(failure("FROM base\nFROM base AS\n"), @"");
    check!(failure("RUN true\n"), @"");
    check!(failure(""), @"");
}

#[test]
fn an_expression_that_is_wrong() {
    check!(failure("FROM base\nENV A=${B\n"), @"");
    check!(failure("FROM base\nARG V\nCOPY ${V:?say the version} /\n"), @"");
}

#[test]
fn what_is_not_there_yet_is_refused_by_name_and_line() {
    check!(failure("FROM base\nRUN --mount=type=ssh true\nRUN --device=x true\n"), @"");
}
