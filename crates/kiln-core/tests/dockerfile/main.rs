//! The language as BuildKit's parser and lexer read it.
//!
//! Tables hold inputs and what BuildKit made of them, one JSON object a line: `t` is a Dockerfile
//! or `w` a word (with `e` as escape character if it is no backslash), `m` the value of a
//! `--mount`, `p` a port, `d` a duration, `z` a size; `o` is the outcome. An outcome that differs on purpose is marked with `note`, which says why.
//!
//! `KILN_BUILDKIT_TABLE=FILE cargo test -p kiln-core --test dockerfile -- --ignored` compares with
//! any other table.
#![expect(clippy::unwrap_used, reason = "tests")]

mod form;
mod value;

use serde_json::Value;

/// The words of the table that kiln reads in another way than BuildKit.
fn differences(table: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let case: Value = serde_json::from_str(line).unwrap();
        if case.get("note").is_some() {
            continue;
        }
        let expected = &case["o"];
        let (kind, input) = ["t", "w", "m", "p", "d", "z"]
            .into_iter()
            .find_map(|kind| Some((kind, case[kind].as_str()?)))
            .unwrap();
        let escape = case["e"].as_str().and_then(|text| text.chars().next());
        let actual = match kind {
            "t" => form::dockerfile(input, expected),
            "w" => form::word(input, escape.unwrap_or('\\'), expected),
            kind => value::value(kind, input, expected),
        };
        if actual != *expected {
            found.push(format!("{input:?}\n  BuildKit {expected}\n  kiln     {actual}"));
        }
    }
    found
}

#[test]
fn files_are_read_as_buildkit_reads_them() {
    let found = differences(include_str!("files.jsonl"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn words_are_expanded_as_buildkit_expands_them() {
    let found = differences(include_str!("words.jsonl"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn values_are_read_as_buildkit_reads_them() {
    let found = differences(include_str!("values.jsonl"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
#[ignore = "compares with a table that KILN_BUILDKIT_TABLE names"]
#[expect(clippy::disallowed_methods, reason = "the table is outside of the project")]
fn a_table_of_buildkit() {
    let path = std::env::var("KILN_BUILDKIT_TABLE").unwrap();
    let found = differences(&std::fs::read_to_string(path).unwrap());
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}
