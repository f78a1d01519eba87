//! `kiln report`, and budgets.

use serde_json::{Value, json};

use crate::fixture::Project;

const DOCKERFILE: &str = "FROM base AS deps\nRUN echo deps > /deps\n\
     FROM deps AS app\nCOPY file /file\nRUN cat /file > /made\n";

fn report(project: &Project) -> Value {
    let run = project.kiln(&["report", "--format=json"]).expect_code(0);
    serde_json::from_str(&run.stdout()).unwrap()
}

#[test]
fn builds_become_a_report() {
    let project = Project::new(DOCKERFILE);
    let nothing = project.kiln(&["report"]);
    assert!(nothing.stderr.contains("has no build"), "{}", nothing.stderr);
    project.write("app/file", "one\n");
    project.build(&["-t", "app"]);
    project.build(&["-t", "app"]);
    project.write("app/file", "two\n");
    project.build(&["-t", "app"]);
    let found = report(&project);
    let kinds: Vec<&str> =
        found["builds"].as_array().unwrap().iter().map(|b| b["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["clean", "cached", "edit"]);
    assert_eq!(
        (&found["rate"]["steps"], &found["rate"]["cached"]),
        (&Value::from(9), &Value::from(4))
    );
    let cause = found["causes"].as_array().unwrap().iter().map(|cause| cause["cause"].to_string());
    assert!(cause.clone().any(|cause| cause.contains("file")), "{:?}", cause.collect::<Vec<_>>());
    assert_eq!(found["images"][0]["layers"], 4);

    let text = project.kiln(&["report"]).expect_code(0).stdout();
    for part in [
        "3 builds",
        "4 of 9 steps cached (44%)",
        "SLOWEST STEPS",
        "✓ budget clean",
        "- budget hit-rate: too few builds yet",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let markdown = project.kiln(&["report", "--format=markdown"]).expect_code(0).stdout();
    assert!(markdown.contains("| Budget | Found | Allowed |"), "{markdown}");
    let html = project.kiln(&["report", "--format=html"]).expect_code(0).stdout();
    assert!(html.contains("<b id=\"hit-rate\">44%</b>"), "{html}");
    assert_eq!(html.matches("<rect").count(), 3);
    assert!(html.contains("RUN cat /file &gt; /made"), "{html}");
    assert!(!html.contains("http"), "it loads nothing");
    let compared = project.kiln(&["report", "--compare", "@1", "@"]).expect_code(0).stdout();
    assert!(compared.contains("[app] RUN cat /file > /made"), "{compared}");
    assert!(!compared.contains("echo deps"), "{compared}");
    let strange = project.kiln(&["report", "--compare", "@1", "abcdef"]);
    assert!(strange.stderr.contains("`abcdef` names no build"), "{}", strange.stderr);
}

#[test]
fn the_context_and_the_layers_are_told_with_their_largest_files() {
    let project = Project::new(
        "FROM base AS deps\n\
         RUN --mount=type=bind,source=lock,target=/lock cp /lock /copied\n\
         COPY src /src\nCOPY --from=base bin/busybox /other\n\
         RUN dd if=/dev/zero of=/large bs=5000 count=100; echo x > /small\n",
    );
    project.write("app/lock", &"l".repeat(700));
    project.write("app/src/a", &"a".repeat(3000));
    project.write("app/src/b", "b");
    project.write("app/not-taken", "n");
    project.build(&["-t", "app"]);
    let found = report(&project);
    assert_eq!(
        found["context"],
        json!({"files": 3, "size_bytes": 3701, "largest": [
            {"path": "src/a", "size_bytes": 3000},
            {"path": "lock", "size_bytes": 700},
            {"path": "src/b", "size_bytes": 1},
        ]})
    );
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 5);
    let large = &layers[4];
    assert_eq!((&large["files"], &large["size_bytes"]), (&json!(2), &json!(500_002)));
    assert_eq!(large["largest"][0], json!({"path": "large", "size_bytes": 500_000}));
    assert_eq!(large["images"], json!(["deps"]));
    assert!(large["instruction"].as_str().unwrap().starts_with("RUN dd if="), "{large}");
    let text = project.kiln(&["report"]).expect_code(0).stdout();
    for part in ["context: 3 files, 3.70kB", "LAYERS OF THE LAST IMAGES", "└ large", "src/a"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let markdown = project.kiln(&["report", "--format=markdown"]).expect_code(0).stdout();
    assert!(markdown.contains("| └ large |  | 500kB |"), "{markdown}");
    let html = project.kiln(&["report", "--format=html"]).expect_code(0).stdout();
    assert!(html.contains("<b id=\"context-size\">3.70kB</b>"), "{html}");
    // The cache answers: the same is told.
    project.build(&["-t", "app"]);
    assert_eq!(report(&project)["context"], found["context"]);
    assert_eq!(report(&project)["layers"], found["layers"]);
    // What is gone from the store is left out.
    project.kiln(&["rmi", "app"]).expect_code(0);
    project.kiln(&["cache", "prune", "--all", "--force"]).expect_code(0);
    assert_eq!(report(&project)["context"], Value::Null);
}

#[test]
fn a_budget_that_is_not_kept_fails() {
    let project = Project::new(DOCKERFILE);
    project.write("app/file", "one\n");
    project.write(
        "kiln.toml",
        "[budget]\nhit-rate = 0\n[budget.app]\nlayers = 3\nimage-size = \"1GB\"\n",
    );
    let over = project.try_build(&["-t", "app", "--budget"]);
    assert_eq!(over.code(), 1);
    assert!(over.stderr.contains("✗ budget layers: 4 (≤ 3)"), "{}", over.stderr);
    assert!(over.stderr.contains("error[over-budget]: 1 budget is not kept"), "{}", over.stderr);
    let checked = project.kiln(&["report", "--check"]);
    assert_eq!(checked.code(), 1);
    project.write("kiln.toml", "[budget]\nhit-rate = 0\n[budget.app]\nlayers = 4\n");
    project.build(&["-t", "app", "--budget"]);
    project.kiln(&["report", "--check"]).expect_code(0);
    project.kiln(&["report"]).expect_code(0);
}
