//! `kiln history`: builds that are over.

use std::fs;

use serde_json::Value;

use crate::fixture::Project;

const DOCKERFILE: &str =
    "FROM base AS app\nRUN echo said once; echo made > /made\nCOPY file /file\nRUN cat /file\n";

fn lines(project: &Project, arguments: &[&str]) -> Vec<Value> {
    let output = project.kiln(&[&["history"], arguments].concat()).expect_code(0).stdout();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn builds_are_listed_shown_exported_and_forgotten() {
    let project = Project::new(DOCKERFILE);
    project.write("app/file", "one\n");
    let commit = "0a1b2c3d".repeat(5);
    project.write("app/.git/HEAD", "ref: refs/heads/main\n");
    project.write("app/.git/refs/heads/main", &commit);
    project.build(&["-t", "app", "--build-arg=API_TOKEN=canary", "--build-arg", "PLAIN=seen"]);
    project.build(&["-t", "app"]);
    project.write("app/file", "two\n");
    project.build(&["-t", "app"]);

    let listed = lines(&project, &["ls", "--format=json"]);
    let names: Vec<&Value> = listed.iter().map(|build| &build["build"]).collect();
    assert_eq!(names, ["b3", "b2", "b1"]);
    let image = &listed[1]["images"][0];
    assert_eq!((&image["cached"], &image["steps"]), (&Value::from(3), &Value::from(3)));
    assert_eq!(listed[0]["commit"]["id"], commit.as_str());
    assert_eq!(listed[0]["commit"]["branch"], "main");
    let command = listed[2]["command"].to_string();
    assert!(command.contains("API_TOKEN=…") && command.contains("PLAIN=seen"), "{command}");
    assert!(!command.contains("canary"), "{command}");
    let table = project.kiln(&["history", "ls", "-n1"]).stdout();
    assert!(table.contains("b3") && table.contains("33%") && !table.contains("\nb2"), "{table}");

    let shown = project.kiln(&["history", "show"]).expect_code(0).stdout();
    assert!(shown.contains("file changed") && shown.contains("commit 0a1b2c3d"), "{shown}");
    let logs = project.kiln(&["history", "logs", "b1"]).expect_code(0).stdout();
    assert!(logs.contains("RUN echo said once") && logs.contains("\nsaid once\n"), "{logs}");
    assert!(project.kiln(&["history", "logs", "@", "cat"]).stdout().ends_with("\ntwo\n"));
    let none = project.kiln(&["history", "logs", "b2"]);
    assert!(none.stderr.contains("no log of build b2 is kept"), "{}", none.stderr);

    let exported = lines(&project, &["export"]);
    assert_eq!(exported.len(), 3);
    assert_eq!(exported[0]["steps"].as_array().unwrap().len(), 5);
    project.kiln(&["history", "export", "b1", "--trace", "-o", "trace.json"]).expect_code(0);
    let trace: Value = serde_json::from_str(&project.read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let ran: Vec<&Value> = events.iter().filter(|event| event["cat"] == "ran").collect();
    assert!(ran.iter().any(|event| event["args"]["line"] == 2), "{trace}");
    // One after the other: no two on a line at the same time.
    let ends = |event: &Value| event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap();
    for (position, event) in ran.iter().enumerate() {
        let beside = ran[..position].iter().filter(|other| other["tid"] == event["tid"]);
        assert!(beside.clone().all(|other| ends(other) <= event["ts"].as_u64().unwrap()));
    }

    assert_eq!(project.kiln(&["history", "rm", "b2", "@"]).stdout(), "forgot 2 builds\n");
    assert_eq!(lines(&project, &["ls", "--format=json"]).len(), 1);
    assert_eq!(project.kiln(&["history", "rm", "--all"]).stdout(), "forgot 1 build\n");
    let gone = project.kiln(&["history", "show"]);
    assert!(gone.stderr.contains("the history of the store has no build"), "{}", gone.stderr);
    let strange = project.kiln(&["history", "show", "strange"]);
    assert!(strange.stderr.contains("`strange` does not name a build"), "{}", strange.stderr);
}

#[test]
fn logs_hold_no_secret() {
    let project = Project::new("FROM base\nRUN --mount=type=secret,id=key cat /run/secrets/key\n");
    project.write("key", "canary-of-a-secret");
    project.build(&["--secret", "id=key,src=key", "-t", "app"]);
    let logs = project.kiln(&["history", "logs"]).expect_code(0).stdout();
    assert!(logs.contains("***") && !logs.contains("canary"), "{logs}");
    for file in fs::read_dir(project.store()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(6).any(|part| part == b"canary"), "{}", path.display());
        }
    }
}
