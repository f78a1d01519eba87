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

    1 of them can be fixed with `kiln check --fix`.
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

    1 of them can be fixed with `kiln check --fix`.

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

const FIXABLE: &str = "FROM scratch as Base\nenv a b c\nMAINTAINER me\nCOPY Dockerfile$x /\n";

#[test]
fn a_diff_shows_what_would_be_fixed() {
    let directory = with(FIXABLE);
    insta::assert_snapshot!(run(&directory, &["check", "--diff"]), @r#"
    exit 1
    --- stdout
    --- Dockerfile
    +++ Dockerfile
    @@ -1,4 +1,4 @@
    -FROM scratch as Base
    -env a b c
    -MAINTAINER me
    +FROM scratch AS base
    +ENV a="b c"
    +LABEL org.opencontainers.image.authors="me"
     COPY Dockerfile$x /
    --- stderr
    Would fix 5 problems in 1 file.
    "#);
    let text = std::fs::read_to_string(directory.path().join("Dockerfile")).expect("read");
    assert_eq!(text, FIXABLE);
}

#[test]
fn fixes_are_written_and_the_rest_is_told() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = with("");
    let (real, link) = (directory.path().join("real"), directory.path().join("Dockerfile"));
    std::fs::remove_file(&link).expect("removed");
    std::fs::write(&real, FIXABLE).expect("written");
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).expect("set");
    symlink("real", &link).expect("linked");
    let shown = run(&directory, &["check", "--fix"]);
    let rest = "\n\nCheck complete, 1 warning has been found!\n\nwarning[UndefinedVar]";
    for part in ["exit 1\n", "+ENV a=\"b c\"\n", rest, "Fixed 5 problems in 1 file.\n"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(link.is_symlink(), "the link stays");
    let mode = std::fs::metadata(&real).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let again = run(&directory, &["check", "--fix", "--format=sarif"]);
    assert!(again.contains("Nothing to fix.") && again.contains("UndefinedVar"), "{again}");
    let names = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(names, 2, "nothing is left beside the file");
}

#[test]
fn several_files_are_judged_at_once() {
    let directory = with("FROM scratch\n");
    std::fs::create_dir(directory.path().join("b")).expect("made");
    std::fs::write(directory.path().join("b/web.Dockerfile"), "FROM scratch as a\n")
        .expect("written");
    let paths = ["check", ".", "b/web.Dockerfile"];
    insta::assert_snapshot!(run(&directory, &paths), @r"
    exit 1
    --- stdout
    Check complete, 1 warning has been found in 1 of 2 files!

    warning[FromAsCasing]: 'as' and 'FROM' keywords' casing do not match
      --> b/web.Dockerfile:1:14
     1 | FROM scratch as a
       |              ^^
     help: write `FROM … AS …` or `from … as …`

    1 of them can be fixed with `kiln check --fix`.
    --- stderr
    ");
    let json = run(&directory, &[&paths[..], &["--format=json"]].concat());
    assert!(json.contains("\"sourceIndex\": 1") && json.contains("b/web.Dockerfile"), "{json}");
    let refused = run(&directory, &[&paths[..], &["-f", "x"]].concat());
    assert!(refused.starts_with("exit 2"), "{refused}");
}

#[test]
fn sarif_has_the_fixes() {
    let directory = with("FROM scratch as a\n");
    let shown = run(&directory, &["check", "--format=sarif"]);
    let json = shown.split("--- stdout\n").nth(1).and_then(|it| it.split("--- stderr").next());
    let document: serde_json::Value = serde_json::from_str(json.expect("parts")).expect("JSON");
    let fix = &document["runs"][0]["results"][0]["fixes"][0]["artifactChanges"][0];
    assert_eq!(fix["replacements"][0]["insertedContent"]["text"], "AS");
    assert_eq!(fix["replacements"][0]["deletedRegion"]["startColumn"], 14);
}

#[test]
fn mistakes_that_planning_finds_are_told() {
    let directory = with("FROM scratch\nCOPY --from=$x a /\nFROM scratch\n");
    let shown = run(&directory, &["check"]);
    assert!(shown.starts_with("exit 1") && shown.contains("error["), "{shown}");
    assert_eq!(run(&directory, &["build", "--check", "."]), shown);
    let context = ["check", "--build-context", "base=docker-image://scratch-like:1"];
    let directory = with("FROM base\n");
    let shown = run(&directory, &context);
    assert!(shown.starts_with("exit 0"), "no image without a tag is meant: {shown}");
}

#[test]
fn only_what_is_built_ends_a_build() {
    let text =
        "# check=error=true\nFROM scratch AS a\nCOPY $x /\nFROM scratch\nCOPY Dockerfile /\n";
    let directory = with(text);
    assert!(run(&directory, &["build", "."]).starts_with("exit 0"));
    assert!(run(&directory, &["build", "--check", "."]).starts_with("exit 1"));
    assert!(run(&directory, &["build", "--target=a", "."]).contains("rules: UndefinedVar"));
}

#[test]
fn a_cache_mount_that_stayed_empty_is_told_after_a_build() {
    let text = "FROM scratch\nRUN --mount=type=cache,id=x,target=/x [\"/true\"]\n";
    let directory = with(text);
    assert!(run(&directory, &["check"]).starts_with("exit 0"), "no build has used it");
    let data = directory.path().join("store");
    assert!(run(&directory, &["build", "."]).starts_with("exit 1"), "there is no /true");
    assert!(data.exists());
    let shown = run(&directory, &["check"]);
    let message = "cache mount `/x` holds nothing after the last build";
    assert!(shown.contains("CacheMountStayedEmpty") && shown.contains(message), "{shown}");
}
