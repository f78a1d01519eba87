//! Mistakes with their places, and what is said about them.

use insta::assert_snapshot;

use kiln_core::dockerfile::parse;
use kiln_core::plan::{Facts, plan};
use kiln_core::source::SourceFile;

use crate::support::{diagnostics, request, steps, targets};

#[test]
fn a_file_without_a_stage() {
    let (file, _) = parse(&SourceFile::new("Dockerfile", "ARG A\n"));
    let errors = plan(&file, &request(), &Facts::default()).unwrap_err();
    assert_snapshot!(diagnostics("", &errors), @"unknown-target: the Dockerfile has no build stage");
}

#[test]
fn bases_that_are_none() {
    assert_snapshot!(steps("ARG V\nFROM $V\n", &request()), @"empty-base 2:6 `$V`: base name ($V) should not be blank");
    assert_snapshot!(steps("FROM UPPER\n", &request()), @r#"invalid-reference 1:6 `UPPER`: failed to parse stage name "UPPER": invalid reference format: `UPPER`: repository name must be lowercase"#);
    assert_snapshot!(steps("FROM a:b:c\n", &request()), @r#"invalid-reference 1:6 `a:b:c`: failed to parse stage name "a:b:c": invalid reference format: `a:b:c`: the repository name is not valid"#);
    assert_snapshot!(steps("FROM ${V\n", &request()), @r#"word-expansion 1:6 `${V`: failed to process "${V": unsupported modifier (end of text) in substitution: syntax error: missing '}'"#);
}

#[test]
fn platforms_that_are_none() {
    assert_snapshot!(steps("FROM --platform=$V base\n", &request()), @"invalid-platform 1:17 `$V`: empty platform value from expression $V");
    assert_snapshot!(steps("FROM --platform=a/b/c/d base\n", &request()), @"invalid-platform 1:17 `a/b/c/d`: failed to parse platform a/b/c/d: `a/b/c/d` is not a platform; write it as `os/architecture[/variant]`, like `linux/arm64`");
}

#[test]
fn blank_names() {
    assert_snapshot!(steps("FROM base\nENV $UNSET=x\n", &request()), @"blank-name 2:5 `$UNSET`: ENV names can not be blank");
}

#[test]
fn a_mistake_in_an_unused_stage_stops_nothing_but_its_own_target() {
    let file = "FROM base AS good\nFROM base AS bad\nSTOPSIGNAL NOPE\n";
    assert_snapshot!(steps(file, &targets(&["good"])), @r"
        #0 image base:latest
        good linux/amd64 = #0
        ");
    assert_snapshot!(steps(file, &targets(&["good", "bad"])), @"invalid-signal 3:12 `NOPE`: invalid signal: NOPE");
}

#[test]
fn mistakes_are_told_before_anything_is_fetched() {
    let (file, _) = parse(&SourceFile::new("f", "FROM one AS a\nFROM UPPER\nCOPY --from=a / /\n"));
    assert!(plan(&file, &request(), &Facts::default()).is_err());
}
