//! `kiln bench`

use insta::assert_snapshot;

use crate::bench::{bench, project};

#[test]
fn bench_output() {
    let text = bench(&project(), &["--runs=1", "--no-save"]).expect_code(0).stdout();
    let mut parts = text.split("\n\n").skip(1);
    // Times differ from run to run.
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[..3], &words[words.len() - 3..]].concat().join(" ")
    };
    let rows: Vec<String> = parts.next().unwrap().lines().map(row).collect();
    assert_snapshot!(rows.join("\n"), @r"
    SCENARIO BUILDER RUNS MOST STEPS RUN
    clean kiln 1 4 of 4
    cached kiln 1 0 of 4
    source-edit kiln 1 2 of 4
    dependency-edit kiln 1 4 of 4
    ");
    let notes = parts.next().unwrap().lines().filter(|line| !line.starts_with("warning: "));
    assert_snapshot!(notes.collect::<Vec<_>>().join("\n"), @r"
    clean: nothing but base images was there; pulling them is not measured
    cached: the same again
    source-edit: a comment in app/main.py, taken first by COPY app /app (stage-1)
    dependency-edit: a comment in requirements.txt, taken first by COPY requirements.txt / (deps)
    ");
}

#[test]
fn bench_error() {
    let project = project();
    assert_snapshot!(project.show(&bench(&project, &["--cold", "--against=docker"])), @r"
    exit 2
    error: `--cold` is not for docker
     help: images of its engine are yours, and are not removed
    ");
}
