//! Sandboxes of an ordinary user: this binary starts itself again as `nobody`, enters a user namespace, and runs commands.
//!
//! It has no test harness: a user namespace can only be entered by a process with one thread. The subordinate ids come from
//! `/etc/subuid` and `/etc/subgid` made for the occasion, mounted in a mount namespace of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "there is no harness to report for this test")]

mod fixture;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use fixture::{Fixture, bind, output, run, tmpfs, tree};
use kiln_sandbox::emulation::{Execution, execution};
use kiln_sandbox::user_namespace::{self, Identity, SingleIdReason};
use kiln_sandbox::{
    Access, Error, ExitStatus, Machine, Mount, MountKind, Network, mount_detached, probe,
};

/// The user that the tests become: one that every system has.
const NOBODY: u32 = 65534;

fn main() {
    // What a test runner asks for before it runs anything: the names of the tests.
    if std::env::args().any(|arg| arg == "--list") {
        if !std::env::args().any(|arg| arg == "--ignored") {
            println!("ordinary_user: test");
        }
        return;
    }
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("as-nobody"), Some(directory)) => as_nobody(Path::new(&directory)),
        _ => from_root(),
    }
}

/// Prepares directories and the two files, then becomes `nobody`, with and without subordinate ids.
fn from_root() {
    if !rustix::process::geteuid().is_root() {
        println!("rootless: skipped: needs root to become somebody else");
        return;
    }
    for subordinate in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        // Reachable by `nobody`, wherever cargo has put the binary.
        let program = directory.path().join("rootless-test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let ids = directory.path().join("ids");
        let line = if subordinate { "nobody:200000:65536\n65534:300000:10\n" } else { "" };
        fs::write(&ids, line).unwrap();
        let script = format!(
            "set -e
            for file in /etc/subuid /etc/subgid; do
                test -e $file && mount --bind {ids} $file || test -z '{line}'
            done
            exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {program} as-nobody {directory}",
            ids = ids.display(),
            line = line.trim(),
            program = program.display(),
            directory = directory.path().display(),
        );
        let status = Command::new("unshare").args(["-m", "sh", "-c", &script]).status().unwrap();
        assert!(status.success(), "with subordinate ids: {subordinate}: {status}");
    }
    println!("rootless: ok");
}

fn as_nobody(directory: &Path) {
    let has_ids = !fs::read_to_string(directory.join("ids")).unwrap().is_empty();
    let identity = user_namespace::enter().unwrap();
    assert!(rustix::process::geteuid().is_root());
    if has_ids {
        assert_eq!(identity, Identity::Subordinate { count: 65536 });
    } else {
        let reason = SingleIdReason::NoSubordinateIds { file: "/etc/subuid" };
        assert_eq!(identity, Identity::SingleId { reason });
    }
    assert_eq!(user_namespace::enter().unwrap(), Identity::NamespaceRoot);

    let fixture = Fixture::in_directory(tempfile::tempdir_in(directory).unwrap());
    probe::overlay(fixture.path()).unwrap();
    detached_overlays_work(&fixture);
    commands_run(&fixture);
    confinement_holds(&fixture);
    mounts_work(&fixture);
    foreign_programs_run(&fixture);
    if has_ids {
        users_are_mapped(&fixture);
    } else {
        other_users_are_refused(&fixture);
    }
    println!("rootless: {identity:?}: ok");
}

/// Without qemu-user-static there is nothing to try.
fn foreign_programs_run(fixture: &Fixture) {
    let program = fixture.image().join("bin/foreign");
    fs::write(&program, Machine::named("s390x").unwrap().probe_program()).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let found = execution("s390x", OsStr::new("/usr/bin"), fixture.path()).unwrap();
    let Execution::Emulated(emulator) = found else {
        return println!("rootless: no emulator: {found:?}");
    };
    for _ in 0..2 {
        let mut spec = fixture.command(&["foreign", "a", "b"]);
        spec.emulator = Some(emulator.clone());
        assert_eq!(run(&spec).unwrap().exit.status, ExitStatus::Code(3));
    }
    fs::remove_file(program).unwrap();
}

fn detached_overlays_work(fixture: &Fixture) {
    use rustix::fs::{AtFlags, Mode};
    let (upper, work) = (fixture.directory("copy/upper"), fixture.directory("copy/work"));
    let root = mount_detached(&[fixture.image()], Some((&upper, &work))).unwrap();
    rustix::fs::mkdirat(&root, "opt", Mode::from_raw_mode(0o755)).unwrap();
    rustix::fs::unlinkat(&root, "bin/wc", AtFlags::empty()).unwrap();
    drop(root);
    assert_eq!(tree(&upper), ["bin/", "bin/wc", "opt/"]);
}

fn commands_run(fixture: &Fixture) {
    let spec =
        fixture.sh("echo $$ $(id -u) $(hostname); touch /made; rm /bin/wc; rm -r /etc; mkdir /etc");
    fs::create_dir_all(fixture.image().join("etc/old")).unwrap();
    assert_eq!(output(&spec), "1 0 buildkitsandbox\n");
    let upper = &spec.rootfs.upper;
    assert_eq!(tree(upper), ["bin/", "bin/wc", "dev/", "etc/", "made", "proc/", "sys/"]);
    assert_eq!(fs::symlink_metadata(upper.join("bin/wc")).unwrap().rdev(), 0);
    let mut value = [0; 8];
    let path = upper.join("etc");
    let length = rustix::fs::getxattr(&path, "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");

    let result = run(&fixture.sh("exit 9")).unwrap();
    assert_eq!(result.exit.status, ExitStatus::Code(9));
    let missing = run(&fixture.command(&["no-such-program"])).map(|_| ()).unwrap_err();
    assert!(matches!(missing, Error::ExecutableNotFound { .. }), "{missing}");
}

fn confinement_holds(fixture: &Fixture) {
    let status =
        output(&fixture.sh("grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp:)' /proc/self/status"));
    assert_eq!(
        status,
        "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    let script = "cd /dev; stat -c '%n %F %t:%T' null zero full random urandom tty; ls -d shm mqueue pts/ptmx fd
        echo x > /dev/null; dd if=/dev/urandom of=/dev/null bs=16 count=1 2>/dev/null
        ! touch /sys/x 2>/dev/null; ! sh -c 'echo x > /proc/sys/kernel/domainname' 2>/dev/null
        ! mount -t tmpfs none /tmp 2>/dev/null";
    let devices = [
        "null character special file 1:3",
        "zero character special file 1:5",
        "full character special file 1:7",
        "random character special file 1:8",
        "urandom character special file 1:9",
        "tty character special file 5:0",
        "fd",
        "mqueue",
        "pts/ptmx",
        "shm",
    ];
    assert_eq!(output(&fixture.sh(script)).lines().collect::<Vec<_>>(), devices);
    let mut spec =
        fixture.sh("ip addr show lo | grep -c 'inet 127.0.0.1/8'; ls /proc/sys/net/ipv4/conf");
    spec.network = Network::None;
    assert!(output(&spec).starts_with("1\n"));
}

fn mounts_work(fixture: &Fixture) {
    let source = fixture.directory("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), "text\n").unwrap();
    let mut spec = fixture
        .sh("cat /src/sub/file /picked; ! touch /src/x 2>/dev/null; touch /tmp/x; cat /etc/hosts");
    spec.mounts = vec![
        bind(&source, "/src", Access::ReadOnly),
        bind("/etc/hosts", "/etc/hosts", Access::ReadOnly),
        tmpfs("/tmp"),
        Mount {
            destination: "/picked".into(),
            kind: MountKind::Overlay {
                lowers: vec![source.clone(), fixture.image()],
                writable: None,
                selector: "sub/file".into(),
            },
        },
    ];
    assert!(output(&spec).starts_with("text\ntext\n"));
    assert_eq!(tree(&spec.rootfs.upper), ["dev/", "proc/", "sys/"]);
}

fn users_are_mapped(fixture: &Fixture) {
    let mut spec = fixture.sh("id -u; id -G; touch /tmp/mine; stat -c %u:%g /tmp/mine");
    spec.mounts = vec![tmpfs("/tmp")];
    spec.process.uid = 1000;
    spec.process.gid = 1001;
    spec.process.groups = vec![5];
    assert_eq!(output(&spec), "1000\n1001 5\n1000:1001\n");
    let spec = fixture.sh("touch /owned; chown 33:34 /owned");
    output(&spec);
    let owned = fs::metadata(spec.rootfs.upper.join("owned")).unwrap();
    assert_eq!((owned.uid(), owned.gid()), (33, 34));
    let mut spec = fixture.sh("true");
    spec.process.uid = 70_000;
    assert!(matches!(run(&spec), Err(Error::IdNotMapped { kind: "user", id: 70_000 })));
}

fn other_users_are_refused(fixture: &Fixture) {
    let mut spec = fixture.sh("true");
    spec.process.uid = 1000;
    assert!(matches!(run(&spec), Err(Error::IdNotMapped { kind: "user", id: 1000 })));
    let mut spec = fixture.sh("true");
    spec.process.groups = vec![5];
    assert!(matches!(run(&spec), Err(Error::IdNotMapped { kind: "group", id: 5 })));
}
