//! Commands that build, or do as if: `build`, `bake`, `run`, `check`, `lock`.

use insta::assert_snapshot;
use kiln_testkit::filters::{filter, unaligned};

use super::project;
use crate::fixture::Project;

#[test]
fn build_output() {
    let project = project();
    assert_snapshot!(project.shown_build(&["-t", "app:1"]), @r"
    status: 0
    --- stdout
    --- stderr
    # [tools 2/2] RUN echo tools > /tools
    # because: this instruction has not run before
    # DONE [time]

    # [app 1/2] COPY file /file
    # because: this instruction has not run before
    # DONE [time]

    # [app 2/2] RUN cat /file; cp /file /made
    # because: this instruction has not run before
    # one
    # DONE [time]

    # exporting to image
    # DONE [time]

    3 steps: 0 cached, 3 ran · 4 layers, 1 reused · [size] · [time]
    image app:1 sha256:[digest]
    ");
    assert_snapshot!(project.shown_build(&["-t", "app:1"]), @r"
    status: 0
    --- stdout
    --- stderr
    # [tools 2/2] RUN echo tools > /tools
    # CACHED

    # [app 1/2] COPY file /file
    # CACHED

    # [app 2/2] RUN cat /file; cp /file /made
    # CACHED

    # exporting to image
    # DONE [time]

    3 steps: 3 cached, 0 ran · 4 layers, 4 reused · [size] · [time]
    image app:1 sha256:[digest]
    ");
    assert_snapshot!(project.shown_build(&["-q", "-t", "app:1"]), @r"
    status: 0
    --- stdout
    sha256:[digest]
    --- stderr
    ");
}

#[test]
fn build_error() {
    let project = Project::new("FROM base\nRUN echo working; exit 3\n");
    assert_snapshot!(project.shown_build(&[]), @r"
    status: 1
    --- stdout
    --- stderr
    # [2/2] RUN echo working; exit 3
    # because: this instruction has not run before
    # working
    # ERROR: `echo working; exit 3` did not complete successfully: exit code: 3

    error[run-failed]: `echo working; exit 3` did not complete successfully: exit code: 3
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN echo working; exit 3
       | ^^^^^^^^^^^^^^^^^^^^^^^^
      why: working
    ");
    project.dockerfile("FROM scratch\nCOPY filee /\n");
    project.write("app/file", "");
    assert_snapshot!(project.shown_build(&[]), @r"
    status: 1
    --- stdout
    --- stderr
    error[copy-failed]: `/filee`: not found (no such file or directory)
      --> app/Dockerfile:2:1   step 1 of 1
     2 | COPY filee /
       | ^^^^^^^^^^^^
     help: did you mean `file`?
    ");
    project.dockerfile("FROM base\nRNU echo\nCOPY\n");
    assert_snapshot!(project.shown(&["build", "app"]), @r"
    status: 1
    --- stdout
    --- stderr

    error[unknown-instruction]: unknown instruction: RNU
      --> app/Dockerfile:2:1
     2 | RNU echo
       | ^^^
     help: did you mean `RUN`?

    error[missing-destination]: COPY requires at least two arguments, but only one was provided. Destination could not be determined
      --> app/Dockerfile:3:1
     3 | COPY
       | ^^^^
    ");
}

const BAKE_FILE: &str = "group \"default\" { targets = [\"app\", \"tools\"] }\n\
    target \"app\" {\n  context = \"app\"\n  target = \"app\"\n  tags = [\"app:1\"]\n}\n\
    target \"tools\" {\n  inherits = [\"app\"]\n  target = \"tools\"\n  tags = [\"tools:1\"]\n}\n";

#[test]
fn bake_output() {
    let project = project();
    project.write("docker-bake.hcl", BAKE_FILE);
    project.bake(&[]).expect_code(0);
    // Which target comes first is open: the table at the end is not.
    let again = project.bake(&[]).expect_code(0).stderr;
    let table = again.rsplit("\n\n").next().unwrap_or_default();
    assert_snapshot!(unaligned(&filter(table, &[])), @r"
    TARGET   TIME   STEPS   CACHED   LAYERS   REUSED   SIZE   IMAGE
    app   [time]   3   3   4   4   [size]   app:1
    tools   [time]   1   1   2   2   [size]   tools:1
    ");
    assert_snapshot!(project.shown(&["bake", "--print", "tools"]), @r#"
    status: 0
    --- stdout
    {
      "group": {
        "default": {
          "targets": [
            "tools"
          ]
        }
      },
      "target": {
        "tools": {
          "context": "app",
          "dockerfile": "Dockerfile",
          "tags": [
            "tools:1"
          ],
          "target": "tools"
        }
      }
    }
    --- stderr
    "#);
    assert_snapshot!(project.shown(&["bake", "--list=targets"]), @r"
    status: 0
    --- stdout
    TARGET    DESCRIPTION
    app
    default   app, tools
    tools
    --- stderr
    ");
}

#[test]
fn bake_error() {
    let project = project();
    assert_snapshot!(project.shown(&["bake"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-bake-file]: couldn't find a bake definition here
     help: it is looked for in docker-bake.hcl, docker-bake.json and compose.yaml; `-f FILE` names another file
    ");
    project.write("docker-bake.hcl", BAKE_FILE);
    assert_snapshot!(project.shown(&["bake", "tool"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[bake-target]: failed to find target tool
     help: did you mean `tools`?
    ");
    project.write("docker-bake.hcl", "target \"app\" {\n  tags = [NAME]\n}\n");
    assert_snapshot!(project.shown(&["bake", "app"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[bake-expression]: there is no variable `NAME`
      --> docker-bake.hcl:2:11
     2 |   tags = [NAME]
       |           ^^^^
    ");
}

#[test]
fn run_output() {
    let project = project();
    project.build(&["-t", "app:1"]);
    assert_snapshot!(project.shown(&["run", "app:1"]), @r"
    status: 0
    --- stdout
    one
    --- stderr
    ");
    assert_snapshot!(project.shown(&["run", "app:1", "sh", "-c", "echo working; echo broken >&2; exit 7"]), @r"
    status: 7
    --- stdout
    working
    --- stderr
    broken
    ");
}

#[test]
fn run_error() {
    let project = project();
    project.build(&["-t", "app:1"]);
    assert_snapshot!(project.shown(&["run", "app"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-image]: no image `app` in the store
     help: `kiln images` lists them
    ");
    assert_snapshot!(project.shown(&["run", "app:1", "cta", "/made"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[run-failed]: app:1: executable `cta` not found in the root file system along PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    ");
}

#[test]
fn check_output() {
    let project = project();
    assert_snapshot!(project.shown(&["check", "--build-context=base=app", "app"]), @r"
    status: 0
    --- stdout
    Check complete, no warnings found.
    --- stderr
    ");
}

#[test]
fn check_error() {
    let project = Project::new("FROM debian as base\nMAINTAINER me\nCMD echo $UNDEFINED\n");
    assert_snapshot!(project.shown(&["check", "app"]), @r"
    status: 1
    --- stdout
    Check complete, 4 warnings have been found!

    warning[UnpinnedBase]: base image `debian` is whatever `latest` means on the day of the build
      --> app/Dockerfile:1:6
     1 | FROM debian as base
       |      ^^^^^^
     help: name a version, such as `python:3.12-slim`, or a digest

    warning[FromAsCasing]: 'as' and 'FROM' keywords' casing do not match
      --> app/Dockerfile:1:13
     1 | FROM debian as base
       |             ^^
     help: write `FROM … AS …` or `from … as …`

    warning[MaintainerDeprecated]: Maintainer instruction is deprecated in favor of using label
      --> app/Dockerfile:2:1
     2 | MAINTAINER me
       | ^^^^^^^^^^^^^
     help: write `LABEL org.opencontainers.image.authors=…`

    warning[JSONArgsRecommended]: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
      --> app/Dockerfile:3:1
     3 | CMD echo $UNDEFINED
       | ^^^^^^^^^^^^^^^^^^^
     help: write the command as a JSON array, or choose a shell with SHELL

    2 of them can be fixed with `kiln check --fix`.
    --- stderr
    ");
    assert_snapshot!(project.shown(&["check", "nowhere"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[context]: the context cannot be opened: nowhere: No such file or directory (os error 2)
    ");
}
