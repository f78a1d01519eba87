//! Ctrl-C and worse.

use std::fs;

use kiln_testkit::registry::{Damage, Fault, Registry};
use rustix::process::Signal;

use crate::fixture::{Project, busybox, long_time, processes_with, start, wait_until};

/// A build that does not end by itself, and the word that its commands have.
fn endless() -> (Project, String) {
    let time = long_time();
    let project = Project::new(&format!(
        "FROM base\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c \
         echo begun; sleep {time} & sleep {time}\nRUN true\n"
    ));
    project.write("secret", "a secret of this test");
    (project, time)
}

const SECRET: &str = "--secret=id=s,src=secret";

/// Directories in memory with secrets of a process.
fn private_directories(pid: u32) -> Vec<String> {
    let names = fs::read_dir("/dev/shm").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("kiln-private-{pid}-"))).collect()
}

#[track_caller]
fn assert_nothing_is_left(project: &Project, word: &str) {
    wait_until("its processes are gone", || processes_with(word).is_empty());
    project.assert_unmounted();
    project.assert_whole();
    project.dockerfile("FROM base\nRUN --mount=type=cache,target=/c echo works\n");
    assert_eq!(project.build(&[]).output(), "works\n");
    project.assert_whole();
}

#[test]
fn an_interrupted_build_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let (project, time) = endless();
        let mut build = start(&mut project.build_command(&[SECRET]));
        let pid = build.pid().as_raw_nonzero().get().cast_unsigned();
        build.wait_for("begun");
        build.signal(signal);
        let run = build.finish().expect_code(130);
        assert_eq!(processes_with(&time), Vec::<String>::new());
        assert_eq!(run.step("RUN --mount=type=secret"), "CANCELED");
        assert!(run.stderr.ends_with("interrupted\n"), "{}", run.stderr);
        assert_eq!(private_directories(pid), Vec::<String>::new());
        assert_nothing_is_left(&project, &time);
    }
}

#[test]
fn a_killed_build_leaves_nothing_behind() {
    let (project, time) = endless();
    let mut build = start(&mut project.build_command(&[SECRET]));
    let pid = build.pid().as_raw_nonzero().get().cast_unsigned();
    build.wait_for("begun");
    build.signal(Signal::KILL);
    build.finish().expect_code(128 + 9);
    assert_nothing_is_left(&project, &time);
    // The secret goes with the next build that has one.
    project.dockerfile("FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s\n");
    project.build(&[SECRET]);
    assert_eq!(private_directories(pid), Vec::<String>::new());
}

#[test]
fn many_commands_are_interrupted_at_once() {
    let time = long_time();
    let stages: String = (0..12)
        .map(|n| format!("FROM base AS s{n}\nRUN echo {n}; echo begun; sleep {time}\n"))
        .collect();
    let copies: String = (0..12).map(|n| format!("COPY --from=s{n} /etc /{n}\n")).collect();
    let project = Project::new(&format!("{stages}FROM base\n{copies}"));
    let mut build = start(&mut project.build_command(&[]));
    build.wait_for("begun");
    wait_until("several run", || processes_with(&time).len() >= 4);
    build.signal(Signal::INT);
    build.finish().expect_code(130);
    assert_eq!(processes_with(&time), Vec::<String>::new());
}

#[test]
fn a_build_that_waits_for_another_is_interrupted() {
    let (project, time) = endless();
    let mut first = start(&mut project.build_command(&[SECRET]));
    first.wait_for("begun");
    let second = start(&mut project.build_command(&[SECRET]));
    // It waits for the step that the first one runs; nothing tells so yet.
    std::thread::sleep(std::time::Duration::from_millis(300));
    second.signal(Signal::INT);
    second.finish().expect_code(130);
    first.signal(Signal::INT);
    first.finish().expect_code(130);
    assert_nothing_is_left(&project, &time);
}

#[test]
fn a_download_is_interrupted() {
    let registry = Registry::start();
    busybox().push(&registry, "app:1");
    registry.fail(Fault::of_blobs(Damage::HangHalfway), 10);
    let project = Project::new(&format!("FROM {}\nRUN true\n", registry.reference("app:1")));
    let build = start(&mut project.build_command(&[]));
    wait_until("a blob is asked for", || registry.log().contains("/blobs/"));
    build.signal(Signal::INT);
    build.finish().expect_code(130);
    project.assert_whole();
}
