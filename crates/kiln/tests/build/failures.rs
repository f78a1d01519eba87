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
    check!(shown, @r#"
    exit 1
    error[run-failed]: `for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do echo $n; done;     echo why >&2; exit 7` did not complete successfully: exit code: 7
      --> app/Dockerfile:4:1   step 3 of 3
     4 | RUN for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do echo $n; done; \
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
     5 |     echo why >&2; exit 7
      why: 4
           5
           6
           7
           8
           9
           10
           11
           12
           13
           14
           why
    "#);
}

#[test]
fn a_command_that_is_killed() {
    check!(failure("FROM base\nRUN sh -c 'kill -9 $$'; exit $?\n"), @r"
    exit 1
    error[run-failed]: `sh -c 'kill -9 $$'; exit $?` did not complete successfully: exit code: 137
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN sh -c 'kill -9 $$'; exit $?
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      why: Killed
    ");
}

#[test]
fn a_program_that_is_not_there() {
    check!(failure("FROM base\nRUN [\"/no/such\", \"program\"]\n"), @r#"
    exit 1
    error[run-failed]: `/no/such program` did not complete successfully: exit code: 1: executable `/no/such` not found in the root file system
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN ["/no/such", "program"]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
     help: is the program in the image, and the shell that runs it?
    "#);
    check!(failure("FROM base\nRUN nosuchprogram\n"), @r"
    exit 1
    error[run-failed]: `nosuchprogram` did not complete successfully: exit code: 127
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN nosuchprogram
       | ^^^^^^^^^^^^^^^^^
      why: /bin/sh: nosuchprogram: not found
    ");
    check!(failure("FROM scratch\nRUN echo hello\n"), @r"
    exit 1
    error[run-failed]: `echo hello` did not complete successfully: exit code: 1: executable `/bin/sh` not found in the root file system
      --> app/Dockerfile:2:1   step 1 of 1
     2 | RUN echo hello
       | ^^^^^^^^^^^^^^
     help: is the program in the image, and the shell that runs it?
    ");
}

#[test]
fn a_file_that_is_not_there() {
    check!(failure("FROM base\nCOPY missing /\n"), @r"
    exit 1
    error[copy-failed]: `/missing`: not found (no such file or directory)
      --> app/Dockerfile:2:1   step 2 of 2
     2 | COPY missing /
       | ^^^^^^^^^^^^^^
    ");
    check!(failure("FROM base\nCOPY --from=base /missing /\n"), @r"
    exit 1
    error[copy-failed]: `/missing`: not found (no such file or directory)
      --> app/Dockerfile:2:1   stage `stage-0`, step 2 of 2
     2 | COPY --from=base /missing /
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
    check!(failure("FROM base\nRUN --mount=type=bind,source=missing,target=/m true\n"), @r"
    exit 1
    error[mount-failed]: mount source `/missing`: not found (no such file or directory)
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN --mount=type=bind,source=missing,target=/m true
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
    let project = Project::new("FROM base\nCOPY secret.txt /\n");
    project.write("app/secret.txt", "");
    project.write("app/.dockerignore", "secret.*\n");
    check!(project.failure(&[]), @r"
    exit 1
    error[copy-failed]: `/secret.txt`: not found (no such file or directory)
      --> app/Dockerfile:2:1   step 2 of 2
     2 | COPY secret.txt /
       | ^^^^^^^^^^^^^^^^^
     help: the ignore file leaves it out: `secret.*`
    ");
}

#[test]
fn a_file_where_a_directory_is() {
    let project = Project::new("FROM base\nCOPY f /bin/sh/\n");
    project.write("app/f", "");
    check!(project.failure(&[]), @r"
    exit 1
    error[copy-failed]: /bin/busybox is not a directory
      --> app/Dockerfile:2:1   step 2 of 2
     2 | COPY f /bin/sh/
       | ^^^^^^^^^^^^^^^
    ");
    project.dockerfile("FROM base\nCOPY d /bin/busybox\n");
    project.write("app/d/x", "");
    check!(project.failure(&[]), @r"
    exit 1
    error[copy-failed]: cannot copy a directory over /bin/busybox: it is not a directory
      --> app/Dockerfile:2:1   step 2 of 2
     2 | COPY d /bin/busybox
       | ^^^^^^^^^^^^^^^^^^^
    ");
    project.dockerfile("FROM base\nWORKDIR /bin/busybox/x\n");
    check!(project.failure(&[]), @r"
    exit 1
    error[copy-failed]: /bin/busybox is not a directory
      --> app/Dockerfile:2:1   step 2 of 2
     2 | WORKDIR /bin/busybox/x
       | ^^^^^^^^^^^^^^^^^^^^^^
    ");
}

#[test]
fn a_stage_that_is_not_there() {
    let project = Project::new("FROM base AS builder\nFROM base\nCOPY --from=biulder /etc /etc\n");
    check!(project.failure(&["--target=bilder"]), @r"
    exit 1
    error[unknown-target]: target stage `bilder` could not be found
      --> app/Dockerfile
     help: did you mean `builder`?
    ");
    let run = project.failure(&[]);
    assert!(run.contains("biulder"), "{run}");
}

#[test]
fn a_user_that_is_not_there() {
    check!(failure("FROM base\nUSER nobody-knows\nRUN true\n"), @r"
    exit 1
    error[unknown-user]: unable to find user nobody-knows: no matching entries in passwd file
      --> app/Dockerfile:3:1   step 2 of 2
     3 | RUN true
       | ^^^^^^^^
    ");
    check!(failure("FROM scratch\nCOPY --chown=alice Dockerfile /\n"), @r"
    exit 1
    error[copy-failed]: --chown=alice: unable to find user, there is no passwd file in an empty image
      --> app/Dockerfile:2:1   step 1 of 1
     2 | COPY --chown=alice Dockerfile /
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
     help: use numbers
    ");
}

#[test]
fn several_errors_at_once() {
    check!(failure("FROM base\nRUM true\nCOPY --form=x a b\nEXPOSE\n"), @r"
    exit 1
    error[unknown-instruction]: unknown instruction: RUM
      --> app/Dockerfile:2:1
     2 | RUM true
       | ^^^
     help: did you mean `RUN`?

    error[unknown-flag]: unknown flag: --form of COPY
      --> app/Dockerfile:3:6
     3 | COPY --form=x a b
       |      ^^^^^^^^
     help: did you mean `--from`?

    error[missing-argument]: EXPOSE requires at least one argument
      --> app/Dockerfile:4:1
     4 | EXPOSE
       | ^^^^^^
    ");
    check!(failure("FROM base\nFROM base AS\n"), @r"
    exit 1
    error[bad-from]: FROM requires either one or three arguments
      --> app/Dockerfile:2:1
     2 | FROM base AS
       | ^^^^^^^^^^^^
     help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
    ");
    check!(failure("RUN true\n"), @r"
    exit 1
    error[no-stage]: no build stage in current context: RUN stands before the first FROM
      --> app/Dockerfile:1:1
     1 | RUN true
       | ^^^
     help: only ARG may stand before the first FROM
    ");
    check!(failure(""), @r"
    exit 1
    error[no-instructions]: the Dockerfile cannot be empty
      --> app/Dockerfile:1:1
     1 |
       | ^
     help: a Dockerfile begins with `FROM IMAGE`
    ");
}

#[test]
fn an_expression_that_is_wrong() {
    check!(failure("FROM base\nENV A=${B\n"), @r#"
    exit 1
    error[word-expansion]: failed to process "${B": unsupported modifier (end of text) in substitution: syntax error: missing '}'
      --> app/Dockerfile:2:7
     2 | ENV A=${B
       |       ^^^
    "#);
    check!(failure("FROM base\nARG V\nCOPY ${V:?say the version} /\n"), @r#"
    exit 1
    error[word-expansion]: failed to process "${V:?say": syntax error: missing '}'
      --> app/Dockerfile:3:6
     3 | COPY ${V:?say the version} /
       |      ^^^^^^^^
    "#);
}

#[test]
fn what_is_not_there_yet_is_refused_by_name_and_line() {
    check!(failure("FROM base\nRUN --mount=type=ssh true\nRUN --device=x true\n"), @r"
    exit 1
    error[invalid-flag]: --device is not supported: kiln gives RUN no devices
      --> app/Dockerfile:3:5
     3 | RUN --device=x true
       |     ^^^^^^^^^^
    ");
}
