//! Builds as text: a line for each step, `NAME = CONTENT <INPUTS`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cache_key::{KeyPart, KeyParts};
use crate::digest::{BlobDigest, ContentId, Recipe};
use crate::report::{BaseReport, StepReport};

fn hash(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// `LINE [stage 1/2] RUN x = content`, each over the one before if it is of the same stage.
fn build(text: &str) -> Vec<StepReport> {
    let mut steps: Vec<StepReport> = Vec::new();
    for (number, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (name, content) = line.rsplit_once(" = ").unwrap();
        let mut step = StepReport {
            name: name.to_owned(),
            line: Some(number + 1),
            last_line: None,
            written: 0,
            targets: Vec::new(),
            inputs: Vec::new(),
            base: None,
            recipe: Recipe::from_bytes([0; 32]),
            key: None,
            content: Some(ContentId::from_bytes(hash(content))),
            outcome: None,
            started_ms: 0,
            duration_ms: 0,
            waited_ms: 0,
            usage: None,
            causes: Vec::new(),
            compared_with: None,
        };
        step.recipe = Recipe::from_bytes(hash(step.text()));
        let below = steps.iter().rposition(|below| below.stage() == step.stage());
        step.inputs = vec![below.map(|below| below as u32)];
        if step.keyword() == "FROM" {
            step.inputs = Vec::new();
            let reference = step.text()["FROM ".len()..].to_owned();
            step.base =
                Some(BaseReport { reference, manifest: BlobDigest::of(content.as_bytes()) });
        }
        steps.push(step);
    }
    steps
}

/// Why what stands on the last step is not what it was.
fn differences(then: &str, now: &str) -> String {
    let (then, now) = (build(then), build(now));
    let comparison = Comparison { then: &then, now: &now };
    let tops = (then.len().checked_sub(1), now.len().checked_sub(1));
    let tops = (tops.0.map(|at| at as u32), tops.1.map(|at| at as u32));
    let found = comparison.differences(tops, "", Extent::Every);
    found.iter().map(|found| found.cause.to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_base_that_moved_and_one_that_was_replaced() {
    insta::assert_snapshot!(
        differences("[1/2] FROM a:1 = x\n[2/2] RUN y = z", "[1/2] FROM a:1 = y\n[2/2] RUN y = z"),
        @"base image moved: a:1 sha256:2d711642b726… -> sha256:a1fce4363854…"
    );
    insta::assert_snapshot!(
        differences("[1/2] FROM a:1 = x\n[2/2] RUN y = z", "[1/2] FROM a:2 = y\n[2/2] RUN y = z"),
        @"base image changed: a:1 -> a:2"
    );
}

#[test]
fn steps_that_hold_something_else_are_named() {
    let then = "[1/4] FROM a = x\n[2/4] RUN one = 1\n[3/4] COPY two . = 2\n[4/4] RUN three = 3";
    insta::assert_snapshot!(
        differences(then, "[1/4] FROM a = x\n[2/4] RUN one = 1\n[3/4] COPY two . = b\n[4/4] RUN three = 3"),
        @"COPY two . (line 3) made other files"
    );
    insta::assert_snapshot!(
        differences(then, "[1/4] FROM a = x\n[2/4] RUN one! = 1\n[3/4] COPY two2 . = b\n[4/4] RUN three = 3"),
        @"COPY two2 . (line 3) was changed, and made other files"
    );
    insta::assert_snapshot!(
        differences(then, "[1/4] FROM a = x\n[2/4] RUN new = n\n[3/4] RUN one = 1\n[4/4] COPY two . = 2\n[5/4] RUN three = 3"),
        @"RUN new (line 2) now comes before it"
    );
    insta::assert_snapshot!(
        differences(then, "[1/4] FROM a = x\n[2/4] RUN one = 1\n[3/4] RUN three = 3"),
        @"COPY two . no longer comes before it"
    );
    insta::assert_snapshot!(
        differences(then, "[1/4] FROM a = x\n[3/4] COPY two . = 2\n[2/4] RUN one = 1\n[4/4] RUN three = 3"),
        @"RUN one (line 3) was moved"
    );
    insta::assert_snapshot!(differences(then, then), @"");
}

#[test]
fn what_only_follows_is_left_out() {
    let then = build("[1/3] FROM a = x\n[2/3] COPY src . = 1\n[3/3] RUN make = 2");
    let mut now = build("[1/3] FROM a = x\n[2/3] COPY src . = b\n[3/3] RUN make = c");
    let told = |now: &[StepReport]| -> Vec<String> {
        let comparison = Comparison { then: &then, now };
        let found = comparison.differences((Some(2), Some(2)), "", Extent::Origins);
        found.iter().map(|found| found.cause.to_string()).collect()
    };
    now[1].causes = vec![Cause::Content { what: "src".to_owned() }];
    now[2].causes = vec![Cause::Step {
        instruction: "COPY src .".to_owned(),
        line: Some(2),
        stage: None,
        change: StepChange::OtherFiles,
        files: None,
    }];
    assert_eq!(told(&now), ["COPY src . (line 2) made other files"]);
    // With a reason of its own it is a reason.
    now[2].causes.push(Cause::NoCache);
    assert_eq!(told(&now).len(), 2);
}

#[test]
fn what_stood_at_the_same_place() {
    let then = build("[a 1/2] RUN one = 1\n[a 2/2] RUN two = 2\n[b 1/1] RUN one = 1");
    let place = |now: &str, at: usize| {
        let now = build(now);
        Comparison { then: &then, now: &now }.counterpart(at)
    };
    assert_eq!(place("[b 1/1] RUN one = 1", 0), Some(2), "the stage's own");
    assert_eq!(place("[a 1/2] RUN one! = 1\n[a 2/2] RUN two = 2", 0), Some(0));
    assert_eq!(place("[a 1/2] RUN new = 1\n[a 2/2] RUN one = 1\n[a 3/3] RUN two = 1", 0), None);
    assert_eq!(place("[a 1/2] RUN one = 1\n[a 2/2] COPY two = 2", 1), None, "another instruction");
    let moved = "[a 1/2] RUN two = 2\n[a 2/2] RUN one = 1";
    assert_eq!((place(moved, 0), place(moved, 1)), (Some(1), Some(0)));
    assert_eq!(place("[c 1/1] RUN two = 2", 0), Some(1), "a stage with another name");
    assert_eq!(place("[c 1/1] RUN one = 1", 0), None, "of which there are two");
}

proptest! {
    /// Edits of contents in a chain: exactly those are told.
    #[test]
    fn exactly_what_was_edited_is_told(edits in prop::collection::vec(0..4u8, 1..12)) {
        let mut then = String::new();
        let mut now = String::new();
        let mut expected = Vec::new();
        let mut line = 0;
        for (number, edit) in edits.iter().enumerate() {
            let step = |content: u8| format!("[1/1] RUN step{number} = {number}.{content}\n");
            if *edit != 2 { line += 1 }
            match edit {
                0 => { then += &step(0); now += &step(0) }
                1 => {
                    then += &step(0);
                    now += &step(1);
                    expected.push(format!("RUN step{number} (line {line}) made other files"));
                }
                2 => { then += &step(0); expected.push(format!("RUN step{number} no longer comes before it")) }
                _ => { now += &step(0); expected.push(format!("RUN step{number} (line {line}) now comes before it")) }
            }
        }
        // One that goes where another comes is the same one, changed: told apart by the tests above.
        let is_mixed = edits.split(|edit| *edit < 2).any(|gap| gap.contains(&2) && gap.contains(&3));
        prop_assume!(!is_mixed);
        let found = differences(&then, &now);
        prop_assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    }
}

fn parts(pairs: &[(&str, &str)]) -> KeyParts {
    let part = |(name, value): &(&str, &str)| KeyPart {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    KeyParts(pairs.iter().map(part).collect())
}

fn told(older: &[(&str, &str)], newer: &[(&str, &str)]) -> String {
    let arguments = ["VERSION".to_owned(), "DEFAULT".to_owned()];
    let given = BTreeMap::from([("VERSION".to_owned(), "2".to_owned())]);
    let naming = Naming { arguments: &arguments, given: &given };
    let found = settings((&parts(older), 0), (&parts(newer), 0), naming);
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn settings_are_called_as_they_are_written() {
    let shell = |line: &str| format!("7:/bin/sh,2:-c,{}:{line},", line.len());
    let (make, all) = (shell("make"), shell("make all"));
    insta::assert_snapshot!(told(&[("command", &make)], &[("command", &all)]), @r#"command changed: "make" -> "make all""#);
    insta::assert_snapshot!(told(&[("command", &make)], &[("command", "4:make,3:all,")]), @r#"command changed: "make" -> ["make", "all"]"#);
    insta::assert_snapshot!(told(&[("command", &make)], &[("command", "blake3:00")]), @"command changed");
    insta::assert_snapshot!(
        told(
            &[("variable VERSION", "1"), ("variable DEFAULT", "a"), ("variable A", ""), ("variable GONE", "x")],
            &[("variable VERSION", "2"), ("variable DEFAULT", "b"), ("variable A", "1"), ("variable NEW", "y")],
        ),
        @r#"
    build-arg VERSION changed: 1 -> 2
    ARG DEFAULT changed: a -> b
    ENV A changed: "" -> 1
    ENV NEW added: y
    ENV GONE removed: x
    "#
    );
    insta::assert_snapshot!(told(&[("variable API_TOKEN", "s3cret")], &[("variable API_TOKEN", "other")]), @"ENV API_TOKEN changed");
    insta::assert_snapshot!(told(&[("owner", ""), ("mode", "=644"), ("user", "")], &[("owner", "=app"), ("mode", ""), ("user", "app")]), @r"
    --chown added: app
    --chmod removed: 644
    user changed: root -> app
    ");
    insta::assert_snapshot!(told(&[("source", "1 /a"), ("source", "1 /b")], &[("source", "1 /a"), ("source", "1 /c")]), @"source changed: /b -> /c");
    insta::assert_snapshot!(told(&[("source", "1 /a"), ("source", "1 /b")], &[("source", "1 /a")]), @"source removed: /b");
    let bind = |target: &str| format!("4:bind,{}:Some({target:?}),", target.len() + 8);
    let (one, two) = (bind("/one"), bind("/two"));
    insta::assert_snapshot!(told(&[("mount", &one)], &[("mount", &one), ("mount", &two)]), @"mount of /two added");
    insta::assert_snapshot!(told(&[("mount", &one), ("mount", &two)], &[]), @"mounts removed");
    insta::assert_snapshot!(told(&[("file EOF", "a")], &[("file EOF", "b")]), @"heredoc EOF changed");
    insta::assert_snapshot!(told(&[("user", "a"), ("x", "1")], &[("user", "a"), ("x", "1")]), @"");
}

#[test]
fn many_files_are_counted() {
    let file =
        |path: &str, change: Change| FileChange { path: path.to_owned(), changes: vec![change] };
    let mut files = vec![file("new/", Change::Added)];
    files.extend((0..100).map(|number| file(&format!("new/{number}"), Change::Added)));
    files.extend(["x", "y", "z"].map(|path| file(path, Change::Content)));
    let changes = |files: &[FileChange]| FileChanges::new(None, files.to_vec());
    insta::assert_snapshot!(changes(&files).summary(), @"new/ added, x changed, y changed, z changed");
    files.push(file("zz", Change::Removed));
    insta::assert_snapshot!(changes(&files).summary(), @"new/ added, x changed, y changed and 2 more");
    files.extend((0..5000).map(|number| file(&format!("zz{number}"), Change::Content)));
    let many = changes(&files);
    assert_eq!((many.files.len(), many.count()), (2000, files.len()));
    insta::assert_snapshot!(many.summary(), @"new/ added, x changed, y changed and 5002 more");
    let of_stage =
        FileChanges::new(Some("stage build".to_owned()), vec![file("/x", Change::Content)]);
    insta::assert_snapshot!(of_stage.summary(), @"/x changed in stage build");
    let step = Cause::Step {
        instruction: format!("RUN {}", "long ".repeat(30)),
        line: Some(3),
        stage: Some("build".to_owned()),
        change: StepChange::OtherFiles,
        files: Some(of_stage),
    };
    insta::assert_snapshot!(step, @"RUN long long long long long long long long long long long… (stage build, line 3) made other files: /x changed");
}

#[test]
fn causes_are_kept_as_json() {
    let causes = vec![
        Cause::New,
        Cause::Setting {
            name: "ENV A".to_owned(),
            before: None,
            after: Some("1".to_owned()),
            change: SettingChange::Added,
        },
        Cause::Files(FileChanges::new(
            None,
            vec![FileChange {
                path: "a".to_owned(),
                changes: vec![Change::Content, Change::Mode { before: 0o644, after: 0o755 }],
            }],
        )),
    ];
    let text = serde_json::to_string(&causes).unwrap();
    insta::assert_snapshot!(text, @r#"[{"kind":"new"},{"kind":"setting","name":"ENV A","before":null,"after":"1","change":"added"},{"kind":"files","files":[{"path":"a","changes":["content",{"mode":{"before":420,"after":493}}]}]}]"#);
    assert_eq!(serde_json::from_str::<Vec<Cause>>(&text).unwrap(), causes);
}
