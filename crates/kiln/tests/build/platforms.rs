//! Steps of other machines. Emulators are of the package qemu-user-static.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kiln_sandbox::Machine;

use crate::fixture::{Project, run};

/// A build in which only the last step is of the foreign machine: its program ends with the number of its arguments.
fn project() -> Project {
    let project = Project::new(
        "FROM --platform=$BUILDPLATFORM base AS native\n\
         RUN date +%N > /once\n\
         FROM scratch\n\
         COPY --from=native /once /\n\
         COPY program /\n\
         RUN [\"/program\", \"a\"]\n",
    );
    let program = project.at("app/program");
    let machine = Machine::named("s390x").unwrap();
    std::fs::write(&program, machine.probe_program()).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    project
}

#[test]
fn a_foreign_command_needs_nothing_but_an_installed_emulator() {
    let emulator = Path::new("/usr/bin/qemu-s390x-static");
    if !emulator.exists() {
        assert!(std::env::var_os("CI").is_none(), "qemu-user-static is not installed");
        return eprintln!("skipped: qemu-user-static is not installed");
    }
    let project = project();
    // It has run when its exit code is known.
    insta::assert_snapshot!(project.failure(&["--platform=linux/s390x"]), @r#"
    exit 1
    error[run-failed]: `/program a` did not complete successfully: exit code: 2
      --> app/Dockerfile:6:1   stage `stage-1`, step 3 of 3
     6 | RUN ["/program", "a"]
       | ^^^^^^^^^^^^^^^^^^^^^
    "#);
    // The host does not know more than before.
    assert!(std::process::Command::new(project.at("app/program")).status().is_err());
}

#[test]
fn without_an_emulator_it_is_said_what_to_install() {
    let project = project();
    let nowhere = project.at("no-tools");
    std::fs::create_dir(&nowhere).unwrap();
    let mut command = project.build_command(&["--platform=linux/s390x"]);
    let run = run(command.env("PATH", &nowhere));
    let shown = project.show(&run).replace("linux/arm64", "linux/amd64");
    insta::assert_snapshot!(&shown[shown.find("error[").unwrap()..], @r#"
    error[no-emulator]: exec format error: this linux/amd64 machine has no emulator for linux/s390x: neither qemu-s390x-static nor qemu-s390x is installed
      --> app/Dockerfile:6:1   stage `stage-1`, step 3 of 3
     6 | RUN ["/program", "a"]
       | ^^^^^^^^^^^^^^^^^^^^^
     help: `apt-get install qemu-user-static` is all that kiln needs; or, for all programs of this machine, `docker run --privileged --rm tonistiigi/binfmt --install s390x`
    "#);
}

#[test]
fn native_steps_are_done_once_for_all_platforms() {
    let project = Project::new(
        "FROM --platform=$BUILDPLATFORM base AS native\n\
         ARG BUILDARCH\n\
         RUN date +%N > /once\n\
         FROM scratch\n\
         ARG TARGETPLATFORM TARGETVARIANT\n\
         LABEL p=$TARGETPLATFORM v=$TARGETVARIANT\n\
         COPY --from=native /once /\n",
    );
    let platforms = "--platform=linux/arm64,linux/s390x,linux/arm/v6,linux/arm64/v8";
    let run = project.build(&[platforms, "-o", "type=local,dest=files"]);
    let natives = run.steps().iter().filter(|(step, _)| step.starts_with("RUN")).count();
    assert_eq!(natives, 1, "{}", run.outcomes());
    let once = project.read("files/linux_arm64/once");
    assert_eq!(once, project.read("files/linux_s390x/once"));
    assert_eq!(once, project.read("files/linux_arm_v6/once"));
    assert_eq!(std::fs::read_dir(project.at("files")).unwrap().count(), 3);
}
