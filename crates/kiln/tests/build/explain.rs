//! `kiln explain`: what the history of the store says of builds and steps.

use kiln_testkit::filters::filter;
use rustix::process::Signal;

use crate::fixture::{Project, Run, long_time, start};

const DOCKERFILE: &str = "FROM base AS files\n\
    COPY src /src/\n\
    FROM files AS app\n\
    ARG VERSION=1\n\
    ENV API_TOKEN=hidden\n\
    RUN echo $VERSION > /version && \\\n    date +%N > /date\n\
    RUN wc -c < /src/a > /size\n\
    RUN cat /size > /copy\n";

fn project() -> Project {
    let project = Project::new(DOCKERFILE);
    for file in ["a", "b", "c", "d", "e", "f"] {
        project.write(&format!("app/src/{file}"), "1");
    }
    project
}

/// What `kiln explain` prints, with what changes from run to run replaced.
fn show(project: &Project, run: &Run) -> String {
    let text = format!("{}{}", run.stdout(), run.stderr);
    let text = filter(&text, &[(&project.path().canonicalize().unwrap(), "[dir]")]);
    let mut shown = String::new();
    for line in text.lines() {
        let (left, right) = line.split_once("content ").unwrap_or((line, ""));
        let right = if right.is_empty() { "" } else { "content [id]" };
        shown.push_str(&format!("{left}{right}\n"));
    }
    shown
}

fn explain(project: &Project, words: &[&str]) -> String {
    show(project, &project.kiln(&[&["explain"], words].concat()))
}

#[test]
fn a_build_is_explained_step_by_step() {
    let project = project();
    project.build(&[]);
    insta::assert_snapshot!(explain(&project, &[]), @r"
    build b1  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    4 steps: 0 cached, 4 ran

        1  [files 1/2] FROM oci-layout of context base  cached
        2  [files 2/2] COPY src /src/  [time]
             this instruction has not run before
        6  [app 1/3] RUN echo 1 > /version && date +%N > /date  [time]
             this instruction has not run before
        8  [app 2/3] RUN wc -c < /src/a > /size  [time]
             this instruction has not run before
        9  [app 3/3] RUN cat /size > /copy  [time]
             this instruction has not run before
    ");
    for file in ["a", "b", "c", "d", "e"] {
        project.write(&format!("app/src/{file}"), "2");
    }
    project.write("app/src/new/x", "1");
    project.build(&["--build-arg=VERSION=2", "--target=app"]);
    // Only the store is needed.
    std::fs::rename(project.at("app"), project.at("gone")).unwrap();
    insta::assert_snapshot!(explain(&project, &[]), @r"
    build b2  [age], took [time]
    [dir]/app/Dockerfile  target app  linux/amd64
    4 steps: 0 cached, 4 ran

        1  [files 1/2] FROM oci-layout of context base  cached
        2  [files 2/2] COPY src /src/  [time]
             7 files of the context are not what they were:
               src/a changed
               src/b changed
               src/c changed
               src/d changed
               src/e changed
               src/new/ added
               src/new/x added
        6  [app 1/3] RUN echo 2 > /version && date +%N > /date  [time]
             build-arg VERSION changed: 1 -> 2
             COPY src /src/ (stage files, line 2) made other files
        8  [app 2/3] RUN wc -c < /src/a > /size  [time]
             build-arg VERSION changed: 1 -> 2
             COPY src /src/ (stage files, line 2) made other files
             RUN echo 2 > /version && date +%N > /date (line 6) made other files
        9  [app 3/3] RUN cat /size > /copy  [time]
             build-arg VERSION changed: 1 -> 2
             COPY src /src/ (stage files, line 2) made other files
             RUN echo 2 > /version && date +%N > /date (line 6) made other files
    ");
    std::fs::rename(project.at("gone"), project.at("app")).unwrap();
    project.build(&["--build-arg=VERSION=2", "--target=app"]);
    insta::assert_snapshot!(explain(&project, &["@"]), @r"
    build b3  [age], took [time]
    [dir]/app/Dockerfile  target app  linux/amd64
    4 steps: 4 cached, 0 ran

        1  [files 1/2] FROM oci-layout of context base  cached
        2  [files 2/2] COPY src /src/  cached
        6  [app 1/3] RUN echo 2 > /version && date +%N > /date  cached
        8  [app 2/3] RUN wc -c < /src/a > /size  cached
        9  [app 3/3] RUN cat /size > /copy  cached
    ");
    assert_eq!(explain(&project, &["@1"]), explain(&project, &["b2"]));
    assert_eq!(explain(&project, &["-2"]), explain(&project, &["b1"]));
}

#[test]
fn a_step_is_explained_with_its_key() {
    let project = project();
    project.build(&[]);
    project.build(&["--build-arg=VERSION=2"]);
    let by_line = explain(&project, &["Dockerfile:7"]);
    insta::assert_snapshot!(by_line, @r#"
    build b2  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    4 steps: 1 cached, 3 ran

        6  [app 1/3] RUN echo 2 > /version && date +%N > /date  [time]
             build-arg VERSION changed: 1 -> 2
             compared with build b1
             its key is made of
               operation  run
               command  "echo $VERSION > /version && date +%N > /date"
               variable PATH  /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
               variable VERSION
                 - 1
                 + 2
               variable API_TOKEN  (not shown)
               working directory  /
               user  root
               platform  linux/amd64
               network  host
               security  sandbox
               the file system so far  content [id]
    "#);
    for words in ["6", "echo 2", "run ECHO"] {
        assert_eq!(explain(&project, &[words]), by_line, "{words}");
    }
    // A cached one, and one of an earlier build.
    insta::assert_snapshot!(explain(&project, &["files"]), @r"
    build b2  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    4 steps: 1 cached, 3 ran

        1  [files 1/2] FROM oci-layout of context base  cached

        2  [files 2/2] COPY src /src/  cached
             its key is made of
               operation  copy
               source  /src
               destination  /src/
               the file system so far  content [id]
               `src` of the context  content [id]
    ");
    insta::assert_snapshot!(explain(&project, &["@1", "wc -c"]), @r#"
    build b1  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    4 steps: 0 cached, 4 ran

        8  [app 2/3] RUN wc -c < /src/a > /size  [time]
             this instruction has not run before
             its key is made of
               operation  run
               command  "wc -c < /src/a > /size"
               variable PATH  /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
               variable VERSION  1
               variable API_TOKEN  (not shown)
               working directory  /
               user  root
               platform  linux/amd64
               network  host
               security  sandbox
               the file system so far  content [id]
    "#);
}

#[test]
fn builds_that_failed_or_were_ended_are_kept() {
    let project = Project::new("FROM base\nRUN echo begun && false\nRUN true\n");
    project.try_build(&[]).expect_code(1);
    insta::assert_snapshot!(explain(&project, &[]), @r"
    build b1  [age], failed after [time]
    [dir]/app/Dockerfile  linux/amd64
    2 steps: 0 cached, 1 ran

        1  [1/3] FROM oci-layout of context base  cached
        2  [2/3] RUN echo begun && false  failed after [time]
             `echo begun && false` did not complete successfully: exit code: 1
             this instruction has not run before
        3  [3/3] RUN true  not reached
    ");
    project.dockerfile("FROM base\nRUNN true\n");
    project.try_build(&[]).expect_code(1);
    insta::assert_snapshot!(explain(&project, &[]), @r"
    build b2  [age], failed after [time]
    [dir]/app/Dockerfile  linux/amd64
    the Dockerfile cannot be built
    ");
    insta::assert_snapshot!(explain(&project, &["RUN"]), @"error[no-step]: build b2 ended before it had any steps");
    let time = long_time();
    project.dockerfile(&format!("FROM base\nRUN echo begun; sleep {time}\n"));
    let mut build = start(&mut project.build_command(&[]));
    build.wait_for("begun");
    build.signal(Signal::TERM);
    build.finish().expect_code(130);
    insta::assert_snapshot!(explain(&project, &[]).replace(&time, "[long]"), @r"
    build b3  [age], canceled after [time]
    [dir]/app/Dockerfile  linux/amd64
    1 step: 0 cached, 1 ran

        1  [1/2] FROM oci-layout of context base  cached
        2  [2/2] RUN echo begun; sleep [long]  canceled after [time]
             this instruction has not run before
    ");
    let again = {
        let mut build = start(&mut project.build_command(&[]));
        build.wait_for("begun");
        build.signal(Signal::TERM);
        build.finish()
    };
    assert_eq!(again.causes(), ["the last build ended before it did"]);
}

#[test]
fn what_is_not_there_is_said() {
    let project = project();
    insta::assert_snapshot!(explain(&project, &[]), @r"
    error[no-build]: the history of the store has no build
     help: every `kiln build` is kept there
    ");
    project.build(&[]);
    for words in [&["flies"][..], &["RUN ehco"], &["4"], &["@5"], &["b9"], &["app", "6"]] {
        project.kiln(&[&["explain"], words].concat()).expect_code(if words.len() == 2 {
            2
        } else {
            1
        });
    }
    insta::assert_snapshot!(explain(&project, &["flies"]), @r"
    error[no-step]: build b1 has no step or stage `flies`
     help: did you mean `files`?
    ");
    insta::assert_snapshot!(explain(&project, &["4"]), @r"
    error[no-step]: no step of build b1 is at line 4
     help: the step before it is that of line 2
    ");
    insta::assert_snapshot!(explain(&project, &["@5"]), @r"
    error[no-build]: the history has no 5 builds before the last one
     help: the last one is b1
    ");
    insta::assert_snapshot!(explain(&project, &["b9"]), @r"
    error[no-build]: the history has no build b9
     help: the last one is b1
    ");
    insta::assert_snapshot!(explain(&project, &["app", "6"]), @r"
    error: `app` does not name a build
     help: `@` is the last one, `@1` the one before it, `b42` that number
    ");
    // Its layers are pruned: what was done is known, what it was made of is not.
    for layer in std::fs::read_dir(project.store().join("layers")).unwrap() {
        std::fs::remove_dir_all(layer.unwrap().path()).unwrap();
    }
    insta::assert_snapshot!(explain(&project, &["6"]), @r"
    build b1  [age], took [time]
    [dir]/app/Dockerfile  linux/amd64
    4 steps: 0 cached, 4 ran

        6  [app 1/3] RUN echo 1 > /version && date +%N > /date  [time]
             this instruction has not run before
             what its key is made of is no longer in the store
    ");
    let causes = project.build(&[]).causes().join("\n");
    insta::assert_snapshot!(causes, @r"
    nothing changed, but its result is no longer in the store
    nothing changed, but its result is no longer in the store
    nothing changed, but its result is no longer in the store
    nothing changed, but its result is no longer in the store
    ");
}

#[test]
fn programs_read_json() {
    let project = project();
    project.build(&[]);
    project.write("app/src/a", "2");
    project.build(&[]);
    let run = project.kiln(&["explain", "--format=json", "COPY src"]);
    let mut document: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    for field in ["started", "duration_ms", "context", "dockerfile", "command", "images"] {
        assert!(document.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    let step = document["steps"][0].as_object_mut().unwrap();
    let varying = ["started_ms", "duration_ms", "waited_ms", "usage"];
    for field in varying.into_iter().chain(["key", "content", "key_parts", "key_parts_before"]) {
        assert!(step.remove(field).is_some(), "{field}");
    }
    insta::assert_snapshot!(format!("{document:#}"), @r#"
    {
      "build": "b2",
      "steps": [
        {
          "number": 2,
          "name": "[files 2/2] COPY src /src/",
          "stage": "files",
          "instruction": "COPY src /src/",
          "line": 2,
          "last_line": 2,
          "inputs": [
            1,
            0
          ],
          "outcome": "done",
          "error": null,
          "causes": [
            {
              "text": "src/a changed",
              "kind": "files",
              "files": [
                {
                  "path": "src/a",
                  "changes": [
                    "content"
                  ]
                }
              ]
            }
          ],
          "compared_with": "b1"
        }
      ],
      "error": null,
      "outcome": "done",
      "commit": null,
      "targets": [],
      "platforms": [
        "linux/amd64"
      ]
    }
    "#);
}
