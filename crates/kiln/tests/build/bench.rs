//! `kiln bench`: what it measures, beside whom, and that nothing of the user's changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fixture::{Project, Run, run};

const DOCKERFILE: &str = "FROM base AS deps\n\
    COPY requirements.txt /\n\
    RUN cat /requirements.txt > /deps\n\
    FROM deps\n\
    COPY app /app\n\
    RUN cat /app/main.py > /made\n";

pub(crate) fn project() -> Project {
    let project = Project::new(DOCKERFILE);
    project.write("app/requirements.txt", "flask\n");
    project.write("app/app/main.py", "x = 1\n");
    project.write("app/app/test_main.py", "assert x == 1\n");
    project.write("app/notes.py", "# not part of the image\n");
    project
}

/// `kiln bench`, with programs of the test's own before all others.
pub(crate) fn bench(project: &Project, words: &[&str]) -> Run {
    let build = Project::build_arguments(&[]);
    let mut command = project.command(&["bench", &build[2], &build[3]]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", project.at("bin").display()));
    command.env("LOG", project.at("calls"));
    run(command.args(words).arg("app"))
}

/// A program that notes how it was called, less what differs from run to run.
fn stand_in(project: &Project, name: &str, script: &str) {
    let text = format!("#!/bin/sh\necho \"{name} $*\" >> \"$LOG\"\n{script}\n");
    let path = project.write(&format!("bin/{name}"), &text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn calls(project: &Project) -> String {
    let build = Project::build_arguments(&[]);
    let base = build[3].trim_start_matches("base=oci-layout://");
    let text = project.read("calls").replace(&project.path().display().to_string(), "[dir]");
    let text = text.replace(base, "[base]");
    let word = |word: &str| {
        let is_work = word.contains("[dir]/store/tmp/");
        let word = word.split_once("@sha256:").map_or(word, |(before, _)| before);
        let shown = match word.rsplit_once("/t") {
            Some((_, rest)) if is_work => match rest.split_once('/') {
                Some((_, inside)) => {
                    let before = word.split("[dir]").next().unwrap_or_default();
                    format!("{before}[work]/{inside}")
                }
                None => word.to_owned(),
            },
            _ => word.to_owned(),
        };
        let parts: Vec<&str> = shown.split("kiln-bench-").collect();
        match parts.as_slice() {
            [before, mark] => {
                let rest = mark.trim_start_matches(|digit: char| digit.is_ascii_digit());
                format!("{before}kiln-bench-[mark]{rest}")
            }
            _ => shown,
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn names<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}

#[test]
fn a_project_is_measured_in_a_copy() {
    let project = project();
    let run = bench(&project, &["--runs=2", "--format=json"]).expect_code(0);
    let found: Value = serde_json::from_str(&run.stdout()).unwrap();
    let all = ["clean", "cached", "source-edit", "dependency-edit"];
    assert_eq!(names(&found["scenarios"], "scenario"), all);
    let steps: Vec<Value> = found["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|scenario| {
            let result = &scenario["results"][0];
            assert_eq!(result["times_ms"].as_array().unwrap().len(), 2, "{scenario}");
            assert!(result["least_ms"].as_f64() <= result["median_ms"].as_f64());
            json!([scenario["edited"], result["steps"]["steps"], result["steps"]["cached"]])
        })
        .collect();
    assert_eq!(
        json!(steps),
        json!([[[], 4, 0], [[], 4, 4], [["app/main.py"], 4, 2], [["requirements.txt"], 4, 0],])
    );
    let context = project.at("app").canonicalize().unwrap();
    assert_eq!(found["place"]["context"], context.display().to_string());
    assert_eq!(found["builders"][0]["name"], "kiln");
    assert!(run.stderr.contains("dependency-edit kiln"), "{}", run.stderr);

    assert_eq!(project.read("app/app/main.py"), "x = 1\n");
    assert_eq!(project.read("app/requirements.txt"), "flask\n");
    let kept = project.kiln(&["history", "export", "--benchmarks"]).expect_code(0);
    assert_eq!(serde_json::from_str::<Value>(&kept.stdout()).unwrap(), found);
    assert_eq!(project.kiln(&["history", "ls", "-q"]).expect_code(0).stdout(), "");
    for place in ["store/tmp", "store/trash"] {
        assert_eq!(fs::read_dir(project.at(place)).unwrap().count(), 0, "{place}");
    }
    project.assert_whole();
}

#[test]
fn a_report_shows_the_last_ones() {
    let project = project();
    bench(&project, &["--runs=1", "--only=cached,clean", "--no-save"]).expect_code(0);
    project.build(&[]);
    let shown = |format: &str| {
        project.kiln(&["report", &format!("--format={format}")]).expect_code(0).stdout()
    };
    assert!(!shown("text").contains("BENCHMARK"), "it was not to be saved");
    let run = bench(&project, &["--runs=1", "--only=cached,clean"]).expect_code(0);
    let text = run.stdout();
    assert!(text.contains("SCENARIO   BUILDER   RUNS   MEDIAN"), "{text}");
    assert!(text.contains("clean: nothing but base images was there"), "{text}");
    let text = shown("text");
    assert!(text.contains("BENCHMARK") && text.contains("clean"), "{text}");
    assert!(shown("markdown").contains("| Benchmark | Scenario | Kiln |"));
    assert!(shown("html").contains("<h2>Benchmarks</h2>"));
    let document: Value = serde_json::from_str(&shown("json")).unwrap();
    assert_eq!(document["benchmarks"].as_array().unwrap().len(), 1);
    assert_eq!(
        document["builds"].as_array().unwrap().len(),
        1,
        "builds that were measured are none"
    );
}

#[test]
fn others_are_measured_in_turn() {
    let project = project();
    stand_in(
        &project,
        "docker",
        "case $1 in version) echo 20.10 ;; build) echo sha256:1 > $4 ;; image) echo 0 ;; esac",
    );
    stand_in(
        &project,
        "buildah",
        "[ \"$1\" = --version ] && echo buildah version 1.28 '(x)'; true",
    );
    let words = ["--runs=2", "--only=clean,cached", "--against=docker,buildah", "--target=deps"];
    let run = bench(&project, &[&words[..], &["--build-arg=A=1", "--format=json"]].concat());
    let found: Value = serde_json::from_str(&run.expect_code(0).stdout()).unwrap();
    assert_eq!(names(&found["builders"], "version")[1..], ["20.10", "1.28"]);
    let cached = &found["scenarios"][1]["results"];
    assert_eq!(names(cached, "builder"), ["kiln", "docker", "buildah"]);
    assert!(cached[1]["ratio"].is_number() && cached[0]["ratio"].is_null(), "{cached}");
    assert_snapshot!(calls(&project), @r"
    docker --version
    docker version --format {{.Server.Version}}
    buildah --version
    buildah --version
    docker build --progress=plain --iidfile [work]/docker-images/0 --file app/Dockerfile --build-arg A=1 --build-context base=oci-layout://[base] --build-arg BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-0 --target=deps [work]/context
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run build --layers --file app/Dockerfile --build-arg A=1 --build-context base=docker-image://oci:[base] --target=deps [work]/context
    docker build --progress=plain --iidfile [work]/docker-images/0 --file app/Dockerfile --build-arg A=1 --build-context base=oci-layout://[base] --build-arg BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-1 --no-cache --target=deps [work]/context
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run build --layers --file app/Dockerfile --build-arg A=1 --build-context base=docker-image://oci:[base] --no-cache --target=deps [work]/context
    docker build --progress=plain --iidfile [work]/docker-images/0 --file app/Dockerfile --build-arg A=1 --build-context base=oci-layout://[base] --build-arg BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-1 --target=deps [work]/context
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run build --layers --file app/Dockerfile --build-arg A=1 --build-context base=docker-image://oci:[base] --target=deps [work]/context
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run build --layers --file app/Dockerfile --build-arg A=1 --build-context base=docker-image://oci:[base] --no-cache --target=deps [work]/context
    docker build --progress=plain --iidfile [work]/docker-images/0 --file app/Dockerfile --build-arg A=1 --build-context base=oci-layout://[base] --build-arg BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-2 --no-cache --target=deps [work]/context
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run build --layers --file app/Dockerfile --build-arg A=1 --build-context base=docker-image://oci:[base] --target=deps [work]/context
    docker build --progress=plain --iidfile [work]/docker-images/0 --file app/Dockerfile --build-arg A=1 --build-context base=oci-layout://[base] --build-arg BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-2 --target=deps [work]/context
    docker image inspect --format {{len .RepoTags}} sha256:1
    docker image rm sha256:1
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run rm --all
    buildah --root [work]/buildah/store/root --runroot [work]/buildah/store/run umount --all
    ");
}

#[test]
fn buildkit_is_asked_as_it_wants_it() {
    let project = project();
    stand_in(&project, "buildctl", "[ \"$1\" = --version ] && echo buildctl x v0.13 y; true");
    let build = Project::build_arguments(&[]);
    let mut command = project.command(&["bench", &build[2], &build[3]]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", project.at("bin").display()));
    command.env("LOG", project.at("calls")).env("BUILDKIT_HOST", "tcp://host:1").env("B", "2");
    command.args(["--only=cached", "--runs=1", "--against=buildkit", "--no-save", "--target=deps"]);
    command.args(["--build-arg=A=1", "--build-arg=B", "--build-context=c=other", "--network=host"]);
    command.args(["--platform=linux/amd64", "--add-host=a:1.2.3.4", "--label=l=1", "app"]);
    fs::create_dir(project.at("other")).unwrap();
    run(&mut command).expect_code(0);
    assert_snapshot!(calls(&project), @r"
    buildctl --version
    buildctl --version
    buildctl --addr tcp://host:1 debug workers
    buildctl --addr tcp://host:1 build --progress plain --frontend dockerfile.v0 --local context=[work]/context --local dockerfile=app --opt filename=Dockerfile --opt build-arg:A=1 --opt build-arg:B=2 --oci-layout layout2=[base] --opt context:base=oci-layout://layout2 --local context3=other --opt context:c=local:context3 --opt label:l=1 --allow network.host --opt force-network-mode=host --opt platform=linux/amd64 --opt add-hosts=a=1.2.3.4 --opt build-arg:BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-0 --opt target=deps
    buildctl --addr tcp://host:1 build --progress plain --frontend dockerfile.v0 --local context=[work]/context --local dockerfile=app --opt filename=Dockerfile --opt build-arg:A=1 --opt build-arg:B=2 --oci-layout layout2=[base] --opt context:base=oci-layout://layout2 --local context3=other --opt context:c=local:context3 --opt label:l=1 --allow network.host --opt force-network-mode=host --opt platform=linux/amd64 --opt add-hosts=a=1.2.3.4 --opt build-arg:BUILDKIT_CACHE_MOUNT_NS=kiln-bench-[mark]-0 --opt target=deps
    ");
}

#[test]
fn another_builder_that_fails_is_left_out() {
    let project = project();
    stand_in(
        &project,
        "docker",
        "[ \"$1\" = version ] && echo 20.10 || { echo no network; exit 3; }",
    );
    let run = bench(&project, &["--runs=1", "--only=cached", "--against=docker"]).expect_code(0);
    assert!(run.stderr.contains("docker: docker ended with exit code 3\n  no network"), "{run:?}");
    let text = run.stdout();
    assert!(
        text.contains("docker: docker ended with exit code 3; it was measured no further"),
        "{text}"
    );
    assert!(text.contains("cached     kiln         1"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let project = project();
    let refused = |words: &[&str]| project.show(&bench(&project, words));
    assert_snapshot!(refused(&["--edit=nowhere.py"]), @r"
    exit 1
    error[file]: cannot open nowhere.py: no such file or directory
    ");
    assert_snapshot!(refused(&["--only=cached", "--edit=app/main.py"]), @r"
    exit 2
    error: `--edit`: `--only` leaves source-edit out
    ");
    assert_snapshot!(refused(&["--cold", "--against=docker"]), @r"
    exit 2
    error: `--cold` is not for docker
     help: images of its engine are yours, and are not removed
    ");
    assert_snapshot!(refused(&["--target=dpes"]), @r"
    exit 1
    source-edit is left out: no source was found that a step takes of the context (`--edit FILE` names one)
    dependency-edit is left out: no file of dependencies was found that a step takes of the context (`--edit-dependencies FILE` names one)
    kiln: kiln ended with exit code 1
      error[unknown-target]: target stage `dpes` could not be found
      --> app/Dockerfile
      help: did you mean `deps`?
    error[bench]: there is nothing to measure: kiln does not build it
    ");
    stand_in(&project, "docker", "echo cannot connect >&2; exit 1");
    assert_snapshot!(refused(&["--against=docker"]), @r"
    exit 3
    error[environment]: docker ended with exit code 1
           cannot connect
     help: start the engine, or say with DOCKER_HOST where one is
    ");
    let mut command = project.command(&["bench", "--against=buildah", "app"]);
    assert_snapshot!(project.show(&run(command.env("PATH", project.at("bin")))), @r"
    exit 3
    error[environment]: buildah is not installed
     help: install buildah, or leave it out of `--against`
    ");
    let git = project.kiln(&["bench", "https://host/x.git"]);
    assert!(git.stderr.contains("`kiln bench` measures builds of a directory"), "{}", git.stderr);
    project.dockerfile("FROM base\nCOPY nothing /\nRUN false\n");
    let failed = refused(&["--only=clean"]);
    assert!(failed.contains("there is nothing to measure: kiln does not build it"), "{failed}");
    project.dockerfile("FROM base\nRUN true\n");
    let none = bench(&project, &["--only=source-edit"]);
    assert_eq!(none.code(), 2);
    assert!(none.stderr.contains("no source was found that a step takes"), "{}", none.stderr);
    let left = bench(&project, &["--runs=1", "--format=json"]).expect_code(0);
    assert!(left.stderr.contains("source-edit is left out"), "{}", left.stderr);
    let left: Value = serde_json::from_str(&left.stdout()).unwrap();
    assert_eq!(names(&left["scenarios"], "scenario"), ["clean", "cached"]);
}

#[test]
fn a_scenario_is_a_line_and_edits_are_told() {
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
fn base_images_of_docker_are_not_removed() {
    let project = project();
    assert_snapshot!(project.show(&bench(&project, &["--cold", "--against=docker"])), @r"
    exit 2
    error: `--cold` is not for docker
     help: images of its engine are yours, and are not removed
    ");
}
