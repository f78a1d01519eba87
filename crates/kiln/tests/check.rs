//! `kiln check` and `kiln build --check`, `--call`: what they write and how they exit.

use std::process::Command;

use tempfile::TempDir;

fn run(directory: &TempDir, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(arguments)
        .current_dir(directory.path())
        .env_clear()
        .env("KILN_ROOT", directory.path().join("store"))
        .output()
        .expect("kiln runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr)
    )
}

fn with(dockerfile: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("Dockerfile"), dockerfile).expect("written");
    directory
}

#[test]
fn warnings_have_their_lines_and_fail() {
    let directory = with("FROM scratch as a\nCOPY Dockerfile$x /\n");
    let shown = run(&directory, &["check"]);
    insta::assert_snapshot!(shown, @r"
    exit 1
    --- stdout
    Check complete, 2 warnings have been found!

    warning[FromAsCasing]: 'as' and 'FROM' keywords' casing do not match
      --> Dockerfile:1:14
     1 | FROM scratch as a
       |              ^^
     help: write `FROM … AS …` or `from … as …`

    warning[UndefinedVar]: Usage of undefined variable '$x'
      --> Dockerfile:2:6
     2 | COPY Dockerfile$x /
       |      ^^^^^^^^^^^^
     help: define it with ARG or ENV before this line
    --- stderr
    ");
    assert_eq!(run(&directory, &["build", "--check", "."]), shown);
    assert_eq!(run(&directory, &["build", "--call=check", "."]), shown);
    assert!(!directory.path().join("store").exists(), "a check makes no store");
}

#[test]
fn a_file_without_warnings_passes() {
    let directory = with("FROM scratch\nCOPY Dockerfile /\n");
    insta::assert_snapshot!(run(&directory, &["check"]), @r"
    exit 0
    --- stdout
    Check complete, no warnings found.
    --- stderr
    ");
}

#[test]
fn rules_of_kiln_do_not_fail_a_check_in_the_way_of_buildx() {
    let directory = with("FROM python\n");
    assert!(run(&directory, &["check"]).starts_with("exit 1\n"));
    let shown = run(&directory, &["build", "--check", "."]);
    assert!(shown.starts_with("exit 0\n") && shown.contains("UnpinnedBase"), "{shown}");
}

#[test]
fn errors_are_shown_with_the_warnings() {
    let directory = with("FROM scratch as a\nCOPPY a b\n");
    insta::assert_snapshot!(run(&directory, &["check"]), @r"
    exit 1
    --- stdout
    Check failed: 1 error, 1 warning.

    error[unknown-instruction]: unknown instruction: COPPY
      --> Dockerfile:2:1
     2 | COPPY a b
       | ^^^^^
     help: did you mean `COPY`?

    warning[FromAsCasing]: 'as' and 'FROM' keywords' casing do not match
      --> Dockerfile:1:14
     1 | FROM scratch as a
       |              ^^
     help: write `FROM … AS …` or `from … as …`
    --- stderr
    ");
}

#[test]
fn json_is_that_of_buildx() {
    let directory = with("FROM scratch\nMAINTAINER \\\n me\n");
    let json = run(&directory, &["check", "--format=json"]);
    assert_eq!(run(&directory, &["build", "--call=check,format=json", "."]), json);
    insta::assert_snapshot!(json, @r#"
    exit 1
    --- stdout
    {
      "warnings": [
        {
          "ruleName": "MaintainerDeprecated",
          "description": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
          "url": "docs/rules/MaintainerDeprecated.md",
          "detail": "Maintainer instruction is deprecated in favor of using label",
          "location": {
            "ranges": [
              {
                "start": {
                  "line": 2,
                  "character": 0
                },
                "end": {
                  "line": 3,
                  "character": 0
                }
              }
            ]
          }
        }
      ],
      "sources": [
        {
          "filename": "Dockerfile",
          "language": "Dockerfile"
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn sarif_says_where() {
    let directory = with("FROM scratch as a\n");
    let shown = run(&directory, &["check", "--format=sarif"]);
    for part in [
        "\"version\": \"2.1.0\"",
        "\"ruleId\": \"FromAsCasing\"",
        "\"startLine\": 1",
        "\"startColumn\": 14",
        "\"endColumn\": 16",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn violations_end_a_build_before_it_begins() {
    let directory = with("# check=error=true\nFROM scratch\nMAINTAINER me\n");
    insta::assert_snapshot!(run(&directory, &["build", "."]), @r#"
    exit 1
    --- stdout
    --- stderr
    Check complete, 1 warning has been found!

    warning[MaintainerDeprecated]: Maintainer instruction is deprecated in favor of using label
      --> Dockerfile:3:1
     3 | MAINTAINER me
       | ^^^^^^^^^^^^^
     help: write `LABEL org.opencontainers.image.authors=…`

    error[lint]: lint violation found for rules: MaintainerDeprecated
    "#);
    let directory = with("# check=errors\nFROM scratch\n");
    insta::assert_snapshot!(run(&directory, &["build", "."]), @r#"
    exit 1
    --- stdout
    --- stderr
    error[bad-check-option]: invalid check option "errors": it is skip, error or experimental
      --> Dockerfile:1:9
     1 | # check=errors
       |         ^^^^^^
     help: write `# check=skip=RULE,RULE;error=true;experimental=RULE`
    "#);
}

#[test]
fn a_build_shows_its_warnings_at_the_end() {
    let directory = with("FROM scratch\nMAINTAINER me\nCOPY Dockerfile /\n");
    let shown = run(&directory, &["build", "."]);
    let end = " 1 warning found (`kiln check` shows more):\n - MaintainerDeprecated: \
               Maintainer instruction is deprecated in favor of using label (line 2)\n";
    assert!(shown.starts_with("exit 0\n") && shown.ends_with(end), "{shown}");
}

#[test]
fn targets_and_outlines_are_tables() {
    let text = "# V is the version\nARG V=1\n# build compiles\nFROM a:$V AS build\n\
                RUN --mount=type=secret,id=npm,required true\nFROM build\n";
    let directory = with(text);
    insta::assert_snapshot!(run(&directory, &["build", "--call=targets", "."]), @r#"
    exit 0
    --- stdout
    TARGET      DESCRIPTION
    build       compiles
    (default)
    --- stderr
    "#);
    let outline = ["build", "--call=outline", "--target=build", "."];
    insta::assert_snapshot!(run(&directory, &outline), @r#"
    exit 0
    --- stdout
    TARGET:      build
    DESCRIPTION: compiles

    BUILD ARG   VALUE   DESCRIPTION
    V           1       is the version

    SECRET   REQUIRED
    npm      true

    --- stderr
    "#);
    insta::assert_snapshot!(run(&directory, &["build", "--call=outline", "--target=biuld", "."]), @r#"
    exit 1
    --- stdout
    --- stderr
    error[no-stage]: there is no stage `biuld`
     help: `--call=targets` lists them
    "#);
    insta::assert_snapshot!(run(&directory, &["check", "--target=biuld"]), @r#"
    exit 1
    --- stdout
    --- stderr
    error[unknown-target]: target stage `biuld` could not be found
      --> Dockerfile
     help: did you mean `build`?
    "#);
}
