//! What a command sees of the machine and may do to it.

use kiln_sandbox::{Access, Error, Network, Privileges};

use crate::fixture::{Fixture, bind, is_root, output, run, tmpfs, tree};

#[test]
fn the_command_is_pid_1_with_its_own_host_name() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let script = "echo $$; hostname; umask; pwd; ps | wc -l";
    // The header, sh, ps, wc.
    assert_eq!(output(&fixture.sh(script)), "1\nbuildkitsandbox\n0022\n/\n4\n");
    assert_eq!(output(&fixture.sh("readlink /proc/self/ns/user")).trim(), link("user"));
    for own in ["pid", "mnt", "uts", "ipc"] {
        let inside = output(&fixture.sh(&format!("readlink /proc/self/ns/{own}")));
        assert_ne!(inside.trim(), link(own), "{own}");
    }
}

fn link(namespace: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap().display().to_string()
}

#[test]
fn root_has_dockers_capabilities_and_filter() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let status = output(&fixture.sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"));
    insta::assert_snapshot!(status, @r"
    CapInh:	0000000000000000
    CapPrm:	00000000a80425fb
    CapEff:	00000000a80425fb
    CapBnd:	00000000a80425fb
    CapAmb:	0000000000000000
    NoNewPrivs:	0
    Seccomp:	2
    ");
}

#[test]
fn a_user_has_its_ids_and_no_capabilities() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.sh("grep -E '^(Cap|Uid|Gid|Groups)' /proc/self/status");
    spec.process.uid = 1000;
    spec.process.gid = 1001;
    spec.process.groups = vec![10, 20];
    insta::assert_snapshot!(output(&spec).replace("20 \n", "20\n"), @r"
    Uid:	1000	1000	1000	1000
    Gid:	1001	1001	1001	1001
    Groups:	10 20
    CapInh:	0000000000000000
    CapPrm:	0000000000000000
    CapEff:	0000000000000000
    CapBnd:	00000000a80425fb
    CapAmb:	0000000000000000
    ");
    // Groups of the caller don't come along.
    assert_eq!(output(&fixture.command(&["id", "-G"])), "0\n");
}

#[test]
fn setuid_programs_work() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // Busybox gives such rights up by itself, so this takes a program and the C library of the host.
    let setuid = fixture.image().join("bin/setuid-cat");
    std::fs::copy("/bin/cat", &setuid).unwrap();
    std::fs::set_permissions(&setuid, std::os::unix::fs::PermissionsExt::from_mode(0o4755))
        .unwrap();
    let mut spec = fixture.command(&["setuid-cat", "/proc/self/status"]);
    let libraries = ["/usr", "/lib", "/lib64"].into_iter();
    spec.mounts = libraries
        .filter(|path| std::path::Path::new(path).exists())
        .map(|path| bind(path, path, Access::ReadOnly))
        .collect();
    spec.process.uid = 1000;
    let status = output(&spec);
    assert!(status.contains("Uid:\t1000\t0\t0\t0\n"), "{status}");
    assert!(status.contains("CapEff:\t00000000a80425fb\n"), "{status}");
}

#[test]
fn the_kernels_links_do_not_lead_to_kilns_own_files() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let outside = fixture.directory("outside");
    // A directory that the process has open, as a store would.
    let open = std::fs::File::open(&outside).unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));

    let mut spec = fixture.sh("pwd -P; ls");
    spec.process.cwd = link.clone().into();
    let error = run(&spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Setup { .. }), "{error}");
    let mut spec = fixture.sh("true");
    spec.mounts = vec![tmpfs(&format!("{link}/made"))];
    assert!(matches!(run(&spec), Err(Error::Setup { .. })));
    assert!(tree(&outside).is_empty());

    // Kiln's own binary (the test's, here) can't be what runs.
    let script = fixture.image().join("bin/script");
    std::fs::write(&script, "#! /proc/self/exe --list\n").unwrap();
    let nested = fixture.image().join("bin/nested");
    std::fs::write(&nested, "#!/bin/script").unwrap();
    for path in [&script, &nested] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    std::os::unix::fs::symlink("/proc/1/exe", fixture.image().join("bin/link")).unwrap();
    for program in ["/proc/self/exe", "script", "nested", "link"] {
        let error = run(&fixture.command(&[program])).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Execute { .. }), "{program}: {error}");
    }
    std::fs::write(&script, "#!\t /bin/echo  hi there\n").unwrap();
    assert_eq!(output(&fixture.command(&["script"])), "hi there /bin/script\n");
    assert_eq!(output(&fixture.command(&["nested"])), "hi there /bin/script /bin/nested\n");
}

#[test]
fn nothing_of_the_host_is_mounted() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mounts = output(
        &fixture.sh("while read -r _ _ _ _ place _; do echo $place; done < /proc/self/mountinfo"),
    );
    let (special, other): (Vec<_>, Vec<_>) = mounts.lines().partition(|place| {
        ["/proc", "/dev", "/sys"].iter().any(|special| place.starts_with(special))
    });
    assert_eq!(other, ["/"]);
    assert!(special.len() < 30, "{special:?}");
    assert_eq!(
        output(&fixture.sh("cd /../..; pwd; ls")),
        "/\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n"
    );
}

#[test]
fn forbidden_calls_are_refused() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    for script in ["mount -t tmpfs none /tmp", "unshare -m true", "umount /proc", "hostname other"]
    {
        let result = run(&fixture.sh(script)).unwrap();
        assert!(!result.exit.status.success(), "{script}");
        let refused =
            ["not permitted", "permission denied"].iter().any(|why| result.stderr.contains(why));
        assert!(refused, "{script}: {}", result.stderr);
    }
    output(&fixture.sh("chroot / true; mknod /tmp/null c 1 3; chown 7:7 /tmp/null"));
}

#[test]
fn the_kernels_own_files_are_masked_or_read_only() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // Which of them there are depends on the kernel.
    let script = "for path in kcore keys timer_list interrupts acpi/* scsi/*; do
            ! test -e /proc/$path || cat /proc/$path
        done
        ! test -e /sys/firmware || ls /sys/firmware";
    assert_eq!(output(&fixture.sh(script)), "");
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"] {
        if !std::path::Path::new(path).exists() {
            continue;
        }
        let result = run(&fixture.sh(&format!("echo 0 > {path}"))).unwrap();
        assert!(result.stderr.contains("Read-only file system"), "{path}: {}", result.stderr);
    }
    // The command's own settings are still its own.
    output(&fixture.sh("echo 10 > /proc/self/oom_score_adj"));
}

#[test]
fn devices_are_the_usual_ones() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    assert_eq!(
        output(&fixture.sh("cd /dev; echo *")),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"
    );
    let script = "cd /dev; stat -c '%n %F %a %t:%T' null zero full random urandom tty; stat -c '%n %a' shm mqueue . pts/ptmx";
    insta::assert_snapshot!(output(&fixture.sh(script)), @r"
    null character special file 666 1:3
    zero character special file 666 1:5
    full character special file 666 1:7
    random character special file 666 1:8
    urandom character special file 666 1:9
    tty character special file 666 5:0
    shm 1777
    mqueue 1777
    . 755
    pts/ptmx 666
    ");
    output(&fixture.sh("echo x > /dev/null; echo x > /dev/shm/x; echo x > /dev/stdout; dd if=/dev/urandom of=/dev/null bs=16 count=1"));
}

#[test]
fn without_network_there_is_only_loopback() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.sh("ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1/8'");
    spec.network = Network::None;
    let names = output(&spec);
    // A kernel may put tunnel devices into every namespace, down.
    assert!(names.lines().any(|name| name == "lo"), "{names}");
    assert!(names.ends_with("1\n"), "{names}");
    assert!(!names.contains("eth"), "{names}");
    assert_eq!(output(&fixture.sh("readlink /proc/self/ns/net")).trim(), link("net"));
    let mut spec = fixture.sh("readlink /proc/self/ns/net");
    spec.network = Network::None;
    assert_ne!(output(&spec).trim(), link("net"));
}

#[test]
fn insecure_commands_keep_everything() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.sh(
        "grep Seccomp: /proc/self/status; mount -t tmpfs none /tmp; grep CapEff /proc/self/status",
    );
    spec.privileges = Privileges::Insecure;
    let text = output(&spec);
    assert!(text.starts_with("Seccomp:\t0\n"), "{text}");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = own.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert!(text.ends_with(&format!("{effective}\n")), "{text}");
}
