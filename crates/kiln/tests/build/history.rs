//! `kiln history`: builds that are over.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

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

/// The steps of the last build, by the word that their instruction begins with.
fn last_steps(project: &Project) -> Vec<Value> {
    let exported = lines(project, &["export", "@"]);
    exported[0]["steps"].as_array().unwrap().clone()
}

fn of<'a>(steps: &'a [Value], text: &str) -> &'a Value {
    let has = |step: &&Value| step["instruction"].as_str().unwrap().contains(text);
    steps.iter().find(has).unwrap_or_else(|| panic!("{text}: {steps:?}"))
}

#[test]
fn what_steps_used_is_kept() {
    let project = Project::new(
        "FROM base\nRUN dd if=/dev/zero of=/made bs=64M count=1 2>&1 && sleep 0.1\nRUN false || true\n\
         COPY file /file\n",
    );
    project.write("app/file", "text");
    project.build(&["-t", "app"]);
    let steps = last_steps(&project);
    let made = &of(&steps, "dd")["usage"];
    let number = |name: &str| made[name].as_u64().unwrap_or_else(|| panic!("{name}: {made}"));
    // Its buffer, and its file as the kernel has counted it.
    assert!((64 << 20..256 << 20).contains(&number("peak_memory_bytes")), "{made}");
    assert!(number("system_ms") + number("user_ms") > 0, "{made}");
    assert!((64 << 20..80 << 20).contains(&number("written_bytes")), "{made}");
    assert!(of(&steps, "COPY")["usage"].is_object());
    let shown = project.kiln(&["history", "show"]).expect_code(0).stdout();
    assert!(shown.contains("memory ") && shown.contains("wrote "), "{shown}");
    let trace = project.kiln(&["history", "export", "@", "--trace"]).expect_code(0).stdout();
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|event| event["args"]["usage"] == *made), "{trace}");
    // The cache uses nothing.
    project.build(&["-t", "app"]);
    assert!(last_steps(&project).iter().all(|step| step["usage"].is_null()));
    // Of what failed, too.
    project.dockerfile("FROM base\nRUN dd if=/dev/zero of=/dev/null bs=64M count=1; exit 3\n");
    project.try_build(&[]).expect_code(1);
    let failed = last_steps(&project);
    assert!(of(&failed, "exit 3")["usage"]["peak_memory_bytes"].as_u64() > Some(64 << 20));
}

/// `commit` of the last build.
fn last_commit(project: &Project) -> Value {
    lines(project, &["ls", "-n1", "--format=json"])[0]["commit"].clone()
}

fn git(project: &Project, words: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(project.at("app")).args(["-c", "user.name=me", "-c", "user.email=me@here"]);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = git.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_working_tree_had_besides_its_commit_is_kept() {
    let project = Project::new(DOCKERFILE);
    project.write("app/file", "one\n");
    project.write("app/.gitignore", "ignored\n");
    project.write("app/ignored", "");
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "first"]);
    // A repository that came from somewhere may name programs: none of them is started.
    let evil = format!("touch {}; cat", project.at("started").display());
    for name in ["core.fsmonitor", "filter.evil.clean", "filter.evil.process"] {
        git(&project, &["config", name, &evil]);
    }
    project.write("app/.git/info/attributes", "* filter=evil\n");

    project.build(&["-t", "app"]);
    assert_eq!(last_commit(&project)["changes"], json!({"tracked": 0, "untracked": 0}));
    // Nobody looks where the cache has all.
    project.build(&["-t", "app"]);
    assert_eq!(last_commit(&project)["changes"], Value::Null);
    project.write("app/file", "two\n");
    project.write("app/new/a", "");
    project.write("app/new/b", "");
    project.build(&["-t", "app"]);
    assert_eq!(last_commit(&project)["changes"], json!({"tracked": 1, "untracked": 1}));
    assert!(project.kiln(&["history", "ls", "-n1"]).stdout().contains("-dirty"));
    let shown = project.kiln(&["history", "show"]).stdout();
    assert!(shown.contains(", 1 file changed, 1 untracked\n"), "{shown}");
    assert!(!project.at("started").exists());
    let mut trash = fs::read_dir(project.store().join("trash")).unwrap();
    assert!(trash.next().is_none(), "nothing is left for the next build to delete");
    // What is staged is not in the commit.
    git(
        &project,
        &[
            "-c",
            "core.fsmonitor=",
            "-c",
            "filter.evil.clean=",
            "-c",
            "filter.evil.process=",
            "add",
            "file",
        ],
    );
    project.build(&["-t", "app", "--no-cache"]);
    assert_eq!(last_commit(&project)["changes"]["tracked"], 1);
}
