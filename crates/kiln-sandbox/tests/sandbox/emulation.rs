//! Programs of other machines. They need qemu-user-static; without it, the tests say so and pass.

use std::ffi::OsStr;
use std::path::Path;

use kiln_sandbox::emulation::{Execution, execution};
use kiln_sandbox::{ExitStatus, Machine, setup_ops, user_namespace};

use crate::fixture::{Fixture, output, run};

/// The foreign architecture of these tests: no machine runs both it and one that kiln is compiled for.
const FOREIGN: &str = "s390x";

/// The fixture with `/bin/foreign`, which ends with its number of arguments, and how it can run here.
fn fixture_with_foreign() -> (Fixture, Execution) {
    let fixture = Fixture::new();
    let program = fixture.image().join("bin/foreign");
    std::fs::write(&program, Machine::named(FOREIGN).unwrap().probe_program()).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let tools = OsStr::new("/usr/bin:/usr/local/bin");
    let execution = execution(FOREIGN, tools, fixture.path()).unwrap();
    (fixture, execution)
}

#[test]
fn a_foreign_program_runs_by_an_emulator_that_only_its_sandbox_knows() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let (fixture, execution) = fixture_with_foreign();
    let Execution::Emulated(emulator) = execution else {
        return println!("skipped: {execution:?}");
    };
    // Native and foreign programs call each other; users and files are those of any other sandbox.
    let script = "foreign; echo $?; foreign a 'b c'; echo $?; id -u; cat /proc/self/uid_map
        touch /tmp/new; chown 1000:8 /tmp/new; stat -c %u:%g /tmp/new";
    let mut spec = fixture.sh(&script
        .replace("foreign", "(set +e; exec foreign")
        .replace("; echo $?", ") || echo $?"));
    spec.process.args[1] = "-c".into();
    spec.emulator = Some(emulator.clone());
    let seen = output(&spec);
    let lines: Vec<&str> = seen.lines().map(str::trim).collect();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let mut fields = map.split_whitespace();
    let (first, count) = (fields.next().unwrap(), fields.nth(1).unwrap());
    assert_eq!(lines[..3], ["1", "3", "0"], "{seen}");
    let mapped: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(mapped, [first, first, count]);
    assert_eq!(lines.last(), Some(&"1000:8"));

    // A command of the foreign machine itself, as another user.
    let mut spec = fixture.command(&["foreign", "x"]);
    (spec.process.uid, spec.process.gid) = (1000, 1000);
    spec.emulator = Some(emulator);
    assert_eq!(run(&spec).unwrap().exit.status, ExitStatus::Code(2));

    // Neither the host nor another sandbox knows it.
    let error = run(&fixture.command(&["foreign"])).err().unwrap();
    assert!(error.to_string().contains("can't execute `/bin/foreign`"), "{error}");
    assert!(std::process::Command::new(fixture.image().join("bin/foreign")).status().is_err());
}

#[test]
fn only_a_foreign_command_enters_a_namespace_more() {
    let (fixture, execution) = fixture_with_foreign();
    let Execution::Emulated(emulator) = execution else {
        return println!("skipped: {execution:?}");
    };
    let mode = user_namespace::mode().unwrap();
    let printed = |spec: &_| -> Vec<String> {
        setup_ops(spec, mode).unwrap().iter().map(ToString::to_string).collect()
    };
    let mut spec = fixture.sh("true");
    let native = printed(&spec);
    let path = emulator.path.clone();
    spec.emulator = Some(emulator);
    let foreign = printed(&spec);
    let more: Vec<&String> = foreign.iter().filter(|op| !native.contains(op)).collect();
    let path = path.display();
    assert_eq!(more, [&format!("enter a user namespace where {path} runs programs for {FOREIGN}")]);
    assert_eq!(foreign.len(), native.len() + 1);
}

#[test]
fn without_an_emulator_it_is_said_what_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = OsStr::new("/nonexistent");
    // Another architecture than the other tests': what was found once is remembered.
    let found = execution("loong64", nowhere, directory.path()).unwrap();
    let names = ["qemu-loongarch64-static", "qemu-loongarch64"].map(str::to_owned);
    let expected = kiln_sandbox::emulation::Impossible::NoEmulator { programs: names.into() };
    if found != Execution::Direct {
        assert_eq!(found, Execution::Impossible(expected));
    }
    let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(execution(own, nowhere, Path::new("/nonexistent")).unwrap(), Execution::Direct);
    assert_eq!(execution("pdp11", nowhere, Path::new("/")).unwrap(), Execution::Direct);
}
