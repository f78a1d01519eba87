//! Binds, snapshots, tmpfs.

use std::fs;
use std::path::PathBuf;

use kiln_sandbox::{Access, Error, Mount, MountKind, Recursion, Spec, WritableLayer};

use crate::fixture::{Fixture, bind, is_root, output, run, tmpfs, tree};

fn with(mut spec: Spec, mounts: Vec<Mount>) -> Spec {
    spec.mounts = mounts;
    spec
}

#[test]
fn binds_are_as_writable_as_asked_for() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.directory("source");
    fs::write(source.join("file"), "text\n").unwrap();
    let spec = fixture.sh("cat /src/file; echo more > /src/more");
    output(&with(spec, vec![bind(&source, "/src", Access::ReadWrite)]));
    assert_eq!(fs::read_to_string(source.join("more")).unwrap(), "more\n");

    let spec = fixture.sh("cat /src/file; touch /src/refused");
    let result = run(&with(spec, vec![bind(&source, "/src", Access::ReadOnly)])).unwrap();
    assert_eq!(result.stdout, "text\n");
    assert!(result.stderr.contains("Read-only file system"), "{}", result.stderr);

    let spec = fixture.sh("cat /etc/resolv.conf; stat -c %a /etc/resolv.conf");
    let mounts = vec![bind(source.join("file"), "/etc/resolv.conf", Access::ReadOnly)];
    assert_eq!(output(&with(spec, mounts)), "text\n644\n");
}

#[test]
fn selectors_stay_inside_of_their_source() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.directory("source");
    fs::create_dir(source.join("etc")).unwrap();
    fs::write(source.join("etc/passwd"), "inside\n").unwrap();
    std::os::unix::fs::symlink("/etc", source.join("link")).unwrap();
    for selector in ["etc/passwd", "link/passwd", "/etc/passwd", "../../../../etc/passwd"] {
        for overlay in [false, true] {
            let kind = if overlay {
                MountKind::Overlay {
                    lowers: vec![source.clone(), fixture.image()],
                    writable: None,
                    selector: selector.into(),
                }
            } else {
                MountKind::Bind {
                    source: source.clone(),
                    selector: selector.into(),
                    access: Access::ReadOnly,
                    recursion: Recursion::Single,
                }
            };
            let mount = Mount { destination: "/picked".into(), kind };
            let text = output(&with(fixture.sh("cat /picked"), vec![mount]));
            assert_eq!(text, "inside\n", "{selector}");
        }
    }
    let kind = MountKind::Overlay {
        lowers: vec![source, fixture.image()],
        writable: None,
        selector: "no/such".into(),
    };
    let spec = with(fixture.sh("true"), vec![Mount { destination: "/x".into(), kind }]);
    assert!(matches!(run(&spec), Err(Error::MountSource { path, .. }) if path == *"no/such"));
}

#[test]
fn snapshots_are_read_only_without_a_writable_layer() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let top = fixture.directory("top");
    fs::create_dir(top.join("app")).unwrap();
    fs::write(top.join("app/file"), "top\n").unwrap();
    let overlay = |lowers: Vec<PathBuf>, writable: Option<WritableLayer>, selector: &str| Mount {
        destination: "/snapshot".into(),
        kind: MountKind::Overlay { lowers, writable, selector: selector.into() },
    };
    let lowers = vec![top.clone(), fixture.image()];

    for (lowers, selector, file) in [
        (lowers.clone(), "", "app/file"),
        (lowers.clone(), "app", "file"),
        (vec![top.clone()], "", "app/file"),
        (vec![top.clone()], "/app", "file"),
    ] {
        let script = format!("cat /snapshot/{file}; touch /snapshot/refused");
        let spec = with(fixture.sh(&script), vec![overlay(lowers, None, selector)]);
        let result = run(&spec).unwrap();
        assert_eq!(result.stdout, "top\n");
        assert!(result.stderr.contains("Read-only file system"), "{}", result.stderr);
    }
    assert_eq!(tree(&top), ["app/", "app/file"]);

    for (selector, script) in [("", "touch /snapshot/app/new"), ("app", "touch /snapshot/new")] {
        let upper = fixture.directory(&format!("upper-{selector}"));
        let work = fixture.directory(&format!("work-{selector}"));
        let writable = Some(WritableLayer { upper: upper.clone(), work });
        let mounts = vec![overlay(lowers.clone(), writable, selector)];
        output(&with(fixture.sh(script), mounts));
        assert_eq!(tree(&upper), ["app/", "app/new"]);
    }
}

#[test]
fn a_tmpfs_has_its_size_and_mode() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let spec = fixture.sh("stat -c %a /tmp/fs; dd if=/dev/zero of=/tmp/fs/big bs=1M count=2");
    let result = run(&with(spec, vec![tmpfs("/tmp/fs")])).unwrap();
    assert_eq!(result.stdout, "1777\n");
    assert!(result.stderr.contains("No space left"), "{}", result.stderr);
    assert_eq!(fs::read_dir(fixture.path().join("run-0/upper")).unwrap().count(), 0);
}

#[test]
fn mounts_nest_in_their_order() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.directory("source");
    let script = fixture.path().join("script");
    fs::write(&script, "#!/bin/sh\necho from $0\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut spec = fixture.command(&["/dev/pipes/EOF"]);
    spec.mounts = vec![bind(&script, "/dev/pipes/EOF", Access::ReadOnly)];
    assert_eq!(output(&spec), "from /dev/pipes/EOF\n");
    assert!(tree(&spec.rootfs.upper).is_empty());

    let spec = fixture.sh("ls /run /run/secrets; touch /run/secrets/x/made");
    let mounts = vec![tmpfs("/run"), bind(&source, "/run/secrets/x", Access::ReadWrite)];
    let spec = with(spec, mounts);
    assert_eq!(output(&spec), "/run:\nsecrets\n\n/run/secrets:\nx\n");
    assert!(tree(&spec.rootfs.upper).is_empty());
    assert_eq!(tree(&source), ["made"]);
}

#[test]
fn a_mount_below_a_shared_bind_does_not_reach_the_host() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.directory("source");
    let spec = fixture.sh("touch /src/inner/hidden");
    output(&with(spec, vec![bind(&source, "/src", Access::ReadWrite), tmpfs("/src/inner")]));
    // The mount point itself is made in the source: it is a writable bind.
    assert_eq!(tree(&source), ["inner/"]);
}
