//! The setup, printed: a change of what a sandbox is shows up here.

use kiln_sandbox::{Access, Mode, Mount, MountKind, Network, Privileges, Spec, setup_ops};

use crate::fixture::{Fixture, bind, tmpfs};

fn printed(spec: &Spec, mode: Mode) -> String {
    let ops = setup_ops(spec, mode).unwrap();
    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn spec() -> Spec {
    let mut spec = Fixture::bare().sh("npm ci");
    spec.mounts = vec![
        bind("/context", "/src", Access::ReadOnly),
        Mount {
            destination: "/usr/../venv".into(),
            kind: MountKind::Overlay {
                lowers: vec!["/layers/b".into(), "/layers/a".into()],
                writable: None,
                selector: "app/.venv".into(),
            },
        },
        tmpfs("/run"),
    ];
    spec.process.uid = 1000;
    spec.process.groups = vec![4];
    spec.network = Network::None;
    spec
}

#[test]
fn as_root() {
    insta::assert_snapshot!(printed(&spec(), Mode::Root), @r#"
    reset signal actions
    tie its life to kiln's
    start a session
    connect the standard streams
    close all other descriptors
    set umask 000
    set host name buildkitsandbox
    bring the loopback device up
    create proc (nosuid,nodev,noexec)
    enter an empty mount namespace
    select app/.venv in overlay of 2 layers (read-only)
    enter root file system of 1 layers
    mount proc on /proc
    mount tmpfs on /dev (mode=755,size=65536k,nosuid)
    make device /dev/null (1:3)
    make device /dev/zero (1:5)
    make device /dev/full (1:7)
    make device /dev/random (1:8)
    make device /dev/urandom (1:9)
    make device /dev/tty (5:0)
    link /dev/fd to /proc/self/fd
    link /dev/stdin to /proc/self/fd/0
    link /dev/stdout to /proc/self/fd/1
    link /dev/stderr to /proc/self/fd/2
    link /dev/ptmx to pts/ptmx
    make directory /dev/pts
    mount devpts on /dev/pts (newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec)
    make directory /dev/shm
    mount tmpfs on /dev/shm (mode=1777,size=65536k,nosuid,nodev,noexec)
    make directory /dev/mqueue
    mount mqueue on /dev/mqueue (nosuid,nodev,noexec)
    mount sysfs on /sys (ro,nosuid,nodev,noexec)
    make mount point /src
    mount /context (read-only) on /src
    make mount point /venv
    mount app/.venv in overlay of 2 layers (read-only) on /venv
    make directory /run
    mount tmpfs on /run (mode=1777,size=1048576,nosuid,nodev)
    mask /proc/interrupts
    mask /proc/kcore
    mask /proc/keys
    mask /proc/latency_stats
    mask /proc/timer_list
    mask /proc/timer_stats
    mask /proc/sched_debug
    mask /proc/acpi
    mask /proc/asound
    mask /proc/scsi
    mask /sys/firmware
    mask /sys/devices/virtual/powercap
    make /proc/bus read-only
    make /proc/fs read-only
    make /proc/irq read-only
    make /proc/sys read-only
    make /proc/sysrq-trigger read-only
    change to directory /
    set umask 022
    limit capabilities to 00000000a80425fb
    install the system call filter
    set supplementary groups [4]
    set user 1000:0
    set capabilities 0000000000000000
    tie its life to kiln's
    execute ["sh", "-ec", "npm ci"]
    "#);
}

#[test]
fn in_a_user_namespace() {
    let root = printed(&spec(), Mode::Root);
    let rootless = printed(&spec(), Mode::UserNamespace);
    let only = |text: &str, other: &str| {
        let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(only(&root, &rootless), @r#"
    make device /dev/null (1:3)
    make device /dev/zero (1:5)
    make device /dev/full (1:7)
    make device /dev/random (1:8)
    make device /dev/urandom (1:9)
    make device /dev/tty (5:0)
    mount devpts on /dev/pts (newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec)
    mount sysfs on /sys (ro,nosuid,nodev,noexec)
    "#);
    insta::assert_snapshot!(only(&rootless, &root), @r#"
    make file /dev/null
    mount the host's /dev/null on /dev/null
    make file /dev/zero
    mount the host's /dev/zero on /dev/zero
    make file /dev/full
    mount the host's /dev/full on /dev/full
    make file /dev/random
    mount the host's /dev/random on /dev/random
    make file /dev/urandom
    mount the host's /dev/urandom on /dev/urandom
    make file /dev/tty
    mount the host's /dev/tty on /dev/tty
    mount devpts on /dev/pts (newinstance,ptmxmode=0666,mode=0620,nosuid,noexec)
    mount the host's /sys (read-only) on /sys
    "#);
}

#[test]
fn insecure() {
    let mut spec = spec();
    spec.privileges = Privileges::Insecure;
    let text = printed(&spec, Mode::Root);
    for word in ["mask /", "filter", "limit", "set capabilities", "read-only /proc"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    for word in ["make device /dev/fuse (10:229)", "make block device /dev/loop7 (7:7)", "raise"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!printed(&spec, Mode::UserNamespace).contains("/dev/fuse"));
}
