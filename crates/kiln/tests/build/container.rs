//! `kiln run`, and the images of the store.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{Project, long_time, processes_with, start};

fn project() -> Project {
    let project = Project::new(
        "FROM base\nENV A=image\nUSER alice\nWORKDIR /srv\n\
         ENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo of the image\"]\n\
         HEALTHCHECK --interval=5s CMD true\n",
    );
    project.build(&["-t", "app"]);
    project
}

#[test]
fn a_container_runs_as_the_image_says() {
    let project = project();
    let out = |arguments: &[&str]| {
        let run = project.kiln(&[&["run"], arguments].concat()).expect_code(0);
        assert_eq!(run.stderr, "");
        run.stdout()
    };
    assert_eq!(out(&["app"]), "of the image\n");
    assert_eq!(
        out(&["app", "pwd; id -u; id -g; echo $A $HOME"]),
        "/srv\n1000\n1001\nimage /home/alice\n"
    );
    assert_eq!(out(&["-e", "A=flag", "-e", "B=c d", "app", "echo $A $B"]), "flag c d\n");
    assert_eq!(out(&["-w", "/tmp", "-u", "7:8", "app", "pwd; id -u; id -g"]), "/tmp\n7\n8\n");
    assert_eq!(out(&["--entrypoint", "echo", "app", "x", "y"]), "x y\n");
    assert_eq!(out(&["--entrypoint", "pwd", "app"]), "/srv\n", "the image's CMD does not count");
    assert_eq!(out(&["--network=none", "app", "ls /sys/class/net"]), "lo\n");
}

#[test]
fn its_exit_code_is_kilns() {
    let project = project();
    let code = |command: &str| project.kiln(&["run", "app", command]).code();
    assert_eq!(
        [code("exit 0"), code("exit 42"), code("sh -c 'kill -9 $$'; exit $?")],
        [0, 42, 137]
    );
    let run = project.kiln(&["run", "--entrypoint=/no/such", "app"]);
    insta::assert_snapshot!(project.show(&run), @r"
    exit 1
    error[run-failed]: app: executable `/no/such` not found in the root file system
    ");
    let run = project.kiln(&["run", "ap"]);
    insta::assert_snapshot!(project.show(&run), @r"
    exit 1
    error[no-image]: no image `ap` in the store
     help: `kiln images` lists them
    ");
}

#[test]
fn what_it_writes_does_not_persist_but_in_volumes() {
    let project = project();
    fs::create_dir(project.at("data")).unwrap();
    project.write("data/in", "in\n");
    let volume = format!("{}:/data", project.at("data").display());
    let command = "cat /data/in; echo out > /data/out; echo x > /tmp/x; ls /tmp";
    let run = project.kiln(&["run", "-u0", "-v", &volume, "app", command]).expect_code(0);
    assert_eq!(run.stdout(), "in\nx\n");
    assert_eq!(project.read("data/out"), "out\n");
    let run = project.kiln(&["run", "-v", "./data:/data:ro", "app", "ls /tmp; touch /data/x"]);
    assert_eq!((run.code(), run.stdout().as_str()), (1, ""));
    assert!(!project.at("data/x").exists());
    project.assert_whole();
    let temporary = fs::read_dir(project.store().join("tmp")).unwrap().count();
    assert_eq!(temporary, 0, "its layer is thrown away");
}

#[test]
fn standard_input_is_connected_when_asked_for() {
    let project = project();
    let path = project.write("input", "line\n");
    let cat = |flags: &[&str]| {
        let mut command = project.command(&[&["run"], flags, &["app", "cat"]].concat());
        command.stdin(fs::File::open(&path).unwrap());
        crate::fixture::run(&mut command).expect_code(0).stdout()
    };
    assert_eq!(cat(&["-i"]), "line\n");
    assert_eq!(cat(&[]), "");
}

#[test]
fn an_image_without_a_name_has_its_id() {
    let project = Project::new("FROM base\nCMD [\"/bin/echo\", \"nameless\"]\n");
    let id = project.build(&["-q"]).stdout();
    let id = id.trim();
    assert_eq!(project.kiln(&["run", id]).expect_code(0).stdout(), "nameless\n");
    let list = project.kiln(&["images"]).expect_code(0).stdout();
    assert_eq!(list.matches("<none>").count(), 2, "{list}");
    // With a name, it is one image.
    project.build(&["-t", "named"]);
    let list = project.kiln(&["images"]).expect_code(0).stdout();
    assert!(list.contains("named") && !list.contains("<none>"), "{list}");
    project.kiln(&["rmi", "named"]).expect_code(0);
    project.kiln(&["rmi", id]).expect_code(0);
    project.kiln(&["run", id]).expect_code(1);
    project.assert_whole();
}

#[test]
fn signals_are_handed_on() {
    let project = project();
    let script =
        "trap 'echo ended >&2; exit 9' TERM; echo begun >&2; while true; do sleep 0.05; done";
    let mut container = start(&mut project.command(&["run", "app", script]));
    container.wait_for("begun");
    container.signal(Signal::TERM);
    let run = container.finish().expect_code(9);
    assert_eq!(run.stderr, "begun\nended\n");
    // A command that ignores them ends with the second.
    let time = long_time();
    let script = format!("trap '' INT; echo begun >&2; sleep {time}");
    let mut container = start(&mut project.command(&["run", "app", &script]));
    container.wait_for("begun");
    crate::fixture::wait_until("it has ended", || {
        // Two that come close together may be one.
        container.signal(Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(50));
        processes_with(&time).is_empty()
    });
    container.finish().expect_code(128 + 9);
    assert_eq!(processes_with(&time), Vec::<String>::new());
}

#[test]
fn a_killed_kiln_takes_its_container_with_it() {
    let project = project();
    let time = long_time();
    let script = format!("echo begun >&2; sleep {time}");
    let mut container = start(&mut project.command(&["run", "app", &script]));
    container.wait_for("begun");
    container.signal(Signal::KILL);
    container.finish().expect_code(128 + 9);
    crate::fixture::wait_until("it is gone", || processes_with(&time).is_empty());
    project.kiln(&["run", "app"]).expect_code(0);
    project.assert_whole();
}

#[test]
fn images_are_listed_shown_and_removed() {
    let project = project();
    project.build(&["-t", "team/other:2", "-t", "app:3"]);
    let listed = project.kiln(&["images", "--format=json"]).stdout();
    let names: Vec<String> = listed
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        names,
        ["docker.io/library/app:3", "docker.io/library/app:latest", "docker.io/team/other:2"]
    );
    let shown: Value = serde_json::from_slice(&project.kiln(&["inspect", "app"]).stdout).unwrap();
    assert_eq!(shown["config"]["Healthcheck"]["Interval"], 5_000_000_000_u64);
    // By the start of its id, too.
    let id = shown["id"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_eq!(project.kiln(&["run", &id[..12]]).stdout(), "of the image\n");
    let removed = project.kiln(&["rmi", "app", "app:3"]).expect_code(0);
    assert_eq!(
        removed.stdout(),
        "untagged: docker.io/library/app:latest\nuntagged: docker.io/library/app:3\n"
    );
    let run = project.kiln(&["rmi", "app"]);
    insta::assert_snapshot!(project.show(&run), @r"
    exit 1
    error[no-image]: no image `app` in the store
     help: `kiln images` lists them
    ");
    assert_eq!(project.kiln(&["run", "team/other:2"]).stdout(), "of the image\n");
    project.build(&["-t", "app"]);
    project.assert_whole();
}
