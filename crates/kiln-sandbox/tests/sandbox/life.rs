//! Start, output, end.

use std::time::Instant;

use kiln_sandbox::{Error, ExitStatus, Stdio, spawn};

use crate::fixture::{Fixture, bind, is_root, output, run};

#[test]
fn output_and_exit_code_come_back() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let result = run(&fixture.sh("echo out; echo err >&2; exit 7")).unwrap();
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(result.exit.status, ExitStatus::Code(7));
    assert!(!result.exit.status.success());
}

#[test]
fn a_signal_is_told_from_a_code() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // PID 1 can't kill itself with most signals; a shell reports its child's, and `kill` from outside works.
    let result = run(&fixture.sh("sh -c 'kill -TERM $$'; true")).unwrap();
    assert_eq!(result.exit.status, ExitStatus::Code(128 + 15));
    let running = spawn(&fixture.command(&["sleep", "1000"])).unwrap();
    assert!(running.pid() > 1);
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap().status, ExitStatus::Signal(9));
}

#[test]
fn killing_ends_all_processes() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut running = spawn(&fixture.sh("sleep 1000 & setsid sleep 1000 & echo up; wait")).unwrap();
    let mut line = [0; 3];
    rustix::io::read(running.stdout.as_ref().unwrap(), &mut line).unwrap();
    let killer = running.killer();
    let stdout = running.stdout.take().unwrap();
    killer.kill().unwrap();
    // Every process held the pipe: end of file means that none is left.
    assert_eq!(rustix::io::read(&stdout, &mut line).unwrap(), 0);
    assert_eq!(running.wait().unwrap().status, ExitStatus::Signal(9));
    killer.kill().unwrap();
}

#[test]
fn a_dropped_command_is_killed() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let running = spawn(&fixture.command(&["sleep", "1000"])).unwrap();
    let pid = running.pid();
    drop(running);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_end_of_the_starting_thread_is_the_end_of_the_command() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    for uid in [0, 1000] {
        let mut spec = fixture.command(&["sleep", "1000"]);
        spec.process.uid = uid;
        let running = std::thread::spawn(move || spawn(&spec).unwrap()).join().unwrap();
        assert_eq!(running.wait().unwrap().status, ExitStatus::Signal(9), "uid {uid}");
    }
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.command(&["/bin/env"]);
    spec.process.env = vec![("B".into(), "two words".into()), ("A".into(), String::new().into())];
    assert_eq!(output(&spec), "B=two words\nA=\n");
    // The test's own process ignores SIGPIPE, as every Rust program does.
    let set = "0000000000000000";
    let spec = fixture.command(&["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]);
    assert_eq!(output(&spec), format!("SigBlk:\t{set}\nSigIgn:\t{set}\n"));
}

#[test]
fn what_was_used_is_measured() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // Far above the test's own size, which the kernel counts in.
    let script = "dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null";
    let exit = run(&fixture.sh(script)).unwrap().exit;
    assert!(exit.max_rss_bytes > Some(290 << 20), "{:?}", exit.max_rss_bytes);
    assert!(exit.usage.system_time.as_micros() > 0);
    let exit = run(&fixture.command(&["true"])).unwrap().exit;
    assert!(exit.max_rss_bytes < Some(290 << 20), "{:?}", exit.max_rss_bytes);
    assert_eq!(exit.usage.written_bytes, 0);
    // Of all that was waited for, through another process, too.
    let script = "(head -c 3000000 /dev/zero > /file)";
    let usage = run(&fixture.sh(script)).unwrap().exit.usage;
    assert!((3_000_000..4_000_000).contains(&usage.written_bytes), "{usage:?}");
}

#[test]
fn a_thread_is_measured_for_itself() {
    let work = || (0..10_000_000_u64).fold(0, |sum, number| sum ^ std::hint::black_box(number));
    let before = kiln_sandbox::thread_usage();
    std::thread::spawn(work).join().unwrap();
    let idle = kiln_sandbox::thread_usage().since(&before).user_time;
    work();
    let busy = kiln_sandbox::thread_usage().since(&before).user_time;
    assert!(busy > 4 * idle, "{idle:?} {busy:?}");
}

#[test]
fn programs_that_cannot_run_are_typed_errors() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let error = |args: &[&str]| run(&fixture.command(args)).map(|_| ()).unwrap_err();

    let missing = error(&["no-such-program"]);
    assert!(
        matches!(&missing, Error::ExecutableNotFound { searched: Some(path), .. } if path == "/usr/bin:/bin")
    );
    insta::assert_snapshot!(missing, @"executable `no-such-program` not found in the root file system along PATH=/usr/bin:/bin");
    let missing = error(&["/opt/no-such-program"]);
    assert!(matches!(&missing, Error::ExecutableNotFound { searched: None, .. }));

    let script = fixture.image().join("bin/script");
    std::fs::write(&script, "#!/bin/no-such-interpreter\n").unwrap();
    assert!(matches!(error(&["script"]), Error::Execute { .. }), "not executable yet");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    insta::assert_snapshot!(error(&["script"]), @"`/bin/script` exists, but its interpreter or dynamic loader does not");

    std::fs::write(&script, "garbage").unwrap();
    insta::assert_snapshot!(error(&["script"]), @"can't execute `/bin/script`: Exec format error (os error 8)");
    insta::assert_snapshot!(error(&[]), @"no command to run");
    insta::assert_snapshot!(error(&["a\0b"]), @"an argument contains a NUL byte");
}

#[test]
fn a_failing_step_of_the_setup_is_named() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    std::fs::write(fixture.image().join("file"), "").unwrap();
    let mut spec = fixture.command(&["true"]);
    spec.hostname = "x".repeat(65);
    let error = run(&spec).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("sandbox: can't set host name xxx"), "{error}");
    assert!(error.ends_with("Invalid argument (os error 22)"), "{error}");
    let mut spec = fixture.command(&["true"]);
    spec.process.cwd = "/file".into();
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"working directory `/file`: Not a directory (os error 20)");
    let mut spec = fixture.command(&["true"]);
    spec.process.cwd = "relative".into();
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"`relative` is not an absolute path");
    let mut spec = fixture.command(&["true"]);
    spec.mounts = vec![bind("/no/such/source", "/src", kiln_sandbox::Access::ReadOnly)];
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"can't mount `/no/such/source`: No such file or directory (os error 2)");
}

#[test]
fn commands_start_from_many_threads_at_once() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let fixture = &fixture;
            scope.spawn(move || {
                for round in 0..8 {
                    let text = format!("{thread}-{round}");
                    let mut spec = fixture.command(&["echo", &text]);
                    spec.process.uid = thread % 2 * 1000;
                    assert_eq!(output(&spec), format!("{text}\n"));
                }
            });
        }
    });
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable);
}

#[test]
fn nothing_stays_mounted_on_the_host() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.directory("source");
    let mut spec = fixture.command(&["true"]);
    spec.mounts = vec![bind(&source, "/src", kiln_sandbox::Access::ReadOnly)];
    output(&spec);
    assert!(run(&fixture.command(&["no-such-program"])).is_err());
    // Other tests run meanwhile; what would be left of this one has its path.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(fixture.path().to_str().unwrap()), "{mounts}");
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let overlays = descriptors
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(fixture.path()))
        .count();
    assert_eq!(overlays, 0);
}

#[test]
fn standard_streams_can_be_the_callers_own() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.sh("exit 3");
    spec.stdio = Stdio::Inherit;
    let running = spawn(&spec).unwrap();
    assert!(running.stdout.is_none() && running.stderr.is_none());
    assert_eq!(running.wait().unwrap().status, ExitStatus::Code(3));
}

#[test]
fn input_is_empty_and_nothing_else_is_open() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let started = Instant::now();
    let input = output(&fixture.sh("cat; readlink /proc/self/fd/0"));
    assert!(input.starts_with("pipe:["), "{input}");
    assert!(started.elapsed().as_secs() < 600, "cat has ended");
    // A descriptor without close-on-exec, as a careless parent may leave.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // 0, 1, 2, and the one that lists.
    assert_eq!(output(&fixture.sh("exec ls /proc/self/fd")), "0\n1\n2\n3\n");
}
