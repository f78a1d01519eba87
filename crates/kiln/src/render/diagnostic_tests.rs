//! How messages look.

use std::io;

use insta::assert_snapshot;

use super::*;

const DOCKERFILE: &str = "FROM python:3.12 AS build\n\
    COPPY . .\n\
    \n\
    RUN apt-get update \\\n\
    \x20   && apt-get install -y \\\n\
    \t\tgit \\\n\
    \t\tcurl \\\n\
    \t\tjq \\\n\
    \t\tmake\n\
    ENV 漢字=\t値 x=${oops\n\
    RUN npm ci\n";

fn source() -> SourceFile {
    SourceFile::new("Dockerfile", DOCKERFILE)
}

fn span_of(text: &str) -> Span {
    let start = DOCKERFILE.find(text).expect("in the Dockerfile");
    Span::new(start, start + text.len())
}

fn show_diagnostic(diagnostic: Diagnostic) -> String {
    diagnostics_lines(&source(), &[diagnostic], Style::Plain).join("\n")
}

fn show_failure(failure: &Failure) -> String {
    failure_lines(failure, Style::Plain).join("\n")
}

fn step_failure(last_output: &[&str]) -> Failure {
    Failure::Step {
        source_file: source(),
        failure: Box::new(StepFailure {
            code: "run-failed",
            span: span_of("RUN npm ci"),
            stage: "build".to_owned(),
            step: 3,
            steps: 6,
            message: "`npm ci` exited with code 1".to_owned(),
            last_output: last_output.iter().map(|line| (*line).to_owned()).collect(),
            help: Some("mount the token with `--mount=type=secret`".to_owned()),
        }),
    }
}

#[test]
fn a_failed_step() {
    let failure = step_failure(&["npm error code E401", "npm error\tlog in first"]);
    assert_snapshot!(show_failure(&failure), @r"
    error[run-failed]: `npm ci` exited with code 1
       --> Dockerfile:11:1   stage `build`, step 3 of 6
     11 | RUN npm ci
        | ^^^^^^^^^^
      why: npm error code E401
           npm error   log in first
     help: mount the token with `--mount=type=secret`
    ");
}

#[test]
fn a_word_of_a_line() {
    let diagnostic =
        Diagnostic::error("unknown-instruction", span_of("COPPY"), "no such instruction: `COPPY`")
            .with_help("did you mean `COPY`?");
    assert_snapshot!(show_diagnostic(diagnostic), @r"
    error[unknown-instruction]: no such instruction: `COPPY`
      --> Dockerfile:2:1
     2 | COPPY . .
       | ^^^^^
     help: did you mean `COPY`?
    ");
}

#[test]
fn carets_stand_under_wide_characters_and_after_tabs() {
    let diagnostic =
        Diagnostic::warning("UndefinedVar", span_of("${oops"), "the brace is not closed");
    assert_snapshot!(show_diagnostic(diagnostic), @r"
    warning[UndefinedVar]: the brace is not closed
       --> Dockerfile:10:13
     10 | ENV 漢字=   値 x=${oops
        |                  ^^^^^^
    ");
    let diagnostic = Diagnostic::error("x", span_of("漢字"), "wide");
    assert_snapshot!(show_diagnostic(diagnostic), @r"
    error[x]: wide
       --> Dockerfile:10:5
     10 | ENV 漢字=   値 x=${oops
        |     ^^^^
    ");
}

#[test]
fn a_span_of_many_lines_is_shortened() {
    let start = DOCKERFILE.find("RUN apt-get").expect("there");
    let end = DOCKERFILE.find("ENV").expect("there");
    let diagnostic = Diagnostic::error("x", Span::new(start, end), "long");
    assert_snapshot!(show_diagnostic(diagnostic), @r"
    error[x]: long
      --> Dockerfile:4:1
     4 | RUN apt-get update \
       | ^^^^^^^^^^^^^^^^^^^^
     5 |     && apt-get install -y \
     6 |         git \
     7 |         curl \
       | … 2 more lines
    ");
}

#[test]
fn a_span_at_the_end_of_the_text_and_none_at_all() {
    let end = Span::new(DOCKERFILE.len(), DOCKERFILE.len());
    assert_snapshot!(show_diagnostic(Diagnostic::error("x", end, "the end")), @r"
    error[x]: the end
       --> Dockerfile:12:1
     12 |
        | ^
    ");
    let mut whole = Diagnostic::error("no-stage", end, "there is no instruction");
    whole.span = None;
    assert_snapshot!(show_diagnostic(whole), @r"
    error[no-stage]: there is no instruction
      --> Dockerfile
    ");
}

#[test]
fn several_diagnostics_stand_apart() {
    let all = [
        Diagnostic::error("a", span_of("COPPY"), "one"),
        Diagnostic::error("b", span_of("npm"), "two"),
    ];
    assert_snapshot!(diagnostics_lines(&source(), &all, Style::Plain).join("\n"), @r"
    error[a]: one
      --> Dockerfile:2:1
     2 | COPPY . .
       | ^^^^^

    error[b]: two
       --> Dockerfile:11:5
     11 | RUN npm ci
        |     ^^^
    ");
}

#[test]
fn failures_without_a_place() {
    let usage = Failure::usage("`a:b` has a tag").with_help("write `-t a`");
    assert_snapshot!(show_failure(&usage), @r"
    error: `a:b` has a tag
     help: write `-t a`
    ");
    let file = Failure::file("open", "Dockerfile", io::ErrorKind::NotFound.into());
    assert_snapshot!(show_failure(&file), @"error[file]: cannot open Dockerfile: entity not found");
    assert_snapshot!(show_failure(&Failure::environment("no overlayfs")), @"error[environment]: no overlayfs");
    assert_eq!(show_failure(&Failure::Problems { problems: 1 }), "");
}

#[test]
fn colours_change_nothing_but_colours() {
    let failure = step_failure(&["text"]);
    let coloured = failure_lines(&failure, Style::Color).join("\n");
    assert!(coloured.contains("\x1b[1;31merror[run-failed]\x1b[0m"));
    let mut plain = String::new();
    for line in coloured.split('\n') {
        plain.push_str(&crate::render::text::sanitize(line));
        plain.push('\n');
    }
    assert_eq!(plain.trim_end(), show_failure(&failure));
}

#[test]
fn a_bug_says_what_to_report() {
    let lines = bug_lines("index out of bounds", Some("src/x.rs:1:2"), Style::Plain);
    assert!(lines[0].starts_with("error[bug]: kiln has a bug: index"));
    assert_eq!(lines[1], "  --> src/x.rs:1:2");
    assert!(lines[2].starts_with(" help: please report it"));
}
