//! What a command leaves in the upper directory, and how layers are joined.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use kiln_sandbox::{Access, mount_detached};

use crate::fixture::{Fixture, is_root, output, run, tree};

#[test]
fn changes_land_in_the_upper_directory() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let spec = fixture.sh("echo new > /etc/new; rm /etc/passwd; mkdir -p /opt/app");
    output(&spec);
    let upper = &spec.rootfs.upper;
    assert_eq!(tree(upper), ["etc/", "etc/new", "etc/passwd", "opt/", "opt/app/"]);
    let whiteout = fs::symlink_metadata(upper.join("etc/passwd")).unwrap();
    assert!(whiteout.file_type().is_char_device());
    assert_eq!(whiteout.rdev(), 0);
    assert!(fixture.image().join("etc/passwd").exists());
}

#[test]
fn a_directory_made_again_is_opaque() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let spec = fixture.sh("rm -r /etc; mkdir /etc; touch /etc/other");
    output(&spec);
    let mut value = [0; 8];
    let path = spec.rootfs.upper.join("etc");
    let length = rustix::fs::getxattr(&path, "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    // As a layer below, it hides the image's.
    let mut next = fixture.sh("ls /etc");
    next.rootfs.lowers.insert(0, spec.rootfs.upper);
    assert_eq!(output(&next), "other\n");
}

#[test]
fn many_layers_are_joined_in_order() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let mut spec = fixture.sh("cat /value; ls /layers | wc -l");
    // Paths that are too long for one option of fsconfig, too.
    let long = "l".repeat(200);
    for number in 0..120 {
        let layer = fixture.directory(&format!("{long}/{}-{number}", "x".repeat(100)));
        fs::create_dir(layer.join("layers")).unwrap();
        fs::write(layer.join("value"), format!("{number}\n")).unwrap();
        fs::write(layer.join(format!("layers/{number}")), "").unwrap();
        spec.rootfs.lowers.insert(0, layer);
    }
    assert_eq!(output(&spec), "119\n120\n");
}

#[test]
fn a_command_can_run_without_any_layer_below() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::bare();
    let mut spec = fixture.sh("echo hi > /greeting");
    spec.rootfs.lowers.clear();
    fs::create_dir(spec.rootfs.upper.join("bin")).unwrap();
    for name in ["busybox", "sh"] {
        fs::copy("/bin/busybox", spec.rootfs.upper.join("bin").join(name)).unwrap();
    }
    output(&spec);
    assert_eq!(fs::read_to_string(spec.rootfs.upper.join("greeting")).unwrap(), "hi\n");
}

#[test]
fn a_read_only_root_refuses_writes() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::bare();
    let mut spec = fixture.sh("touch /x");
    spec.rootfs.access = Access::ReadOnly;
    let result = run(&spec).unwrap();
    assert!(result.stderr.contains("Read-only file system"), "{}", result.stderr);
}

#[test]
fn detached_overlays_are_directories_to_work_in() {
    if !is_root() {
        return;
    }
    use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat};
    let fixture = Fixture::new();
    let top = fixture.directory("top");
    fs::write(top.join("a"), "").unwrap();
    let (upper, work) = (fixture.directory("upper"), fixture.directory("work"));
    let lowers = [top.clone(), fixture.image()];

    let root = mount_detached(&lowers, Some((&upper, &work))).unwrap();
    mkdirat(&root, "etc/made", Mode::from_raw_mode(0o700)).unwrap();
    unlinkat(&root, "a", AtFlags::empty()).unwrap();
    drop(root);
    assert_eq!(tree(&upper), ["a", "etc/", "etc/made/"]);
    let error = mount_detached(&lowers, Some((&upper, &work))).unwrap_err().to_string();
    assert!(error.ends_with("/work` has been used before)"), "{error}");

    let root = mount_detached(&lowers, None).unwrap();
    statat(&root, "etc/passwd", AtFlags::empty()).unwrap();
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let refused = openat(&root, "b", flags, Mode::from_raw_mode(0o600));
    assert_eq!(refused.unwrap_err(), rustix::io::Errno::ROFS);

    let single = mount_detached(&lowers[..1], None).unwrap();
    statat(&single, "a", AtFlags::empty()).unwrap();

    // A layer that stands in the chain twice counts where it is highest.
    let repeated = [top.clone(), fixture.image(), top.clone()];
    let root = mount_detached(&repeated, None).unwrap();
    statat(&root, "a", AtFlags::empty()).unwrap();
    let twice = mount_detached(&[top.clone(), top.clone()], None).unwrap();
    statat(&twice, "a", AtFlags::empty()).unwrap();

    let missing = [top, fixture.path().join("no-such-layer")];
    let error = mount_detached(&missing, None).unwrap_err().to_string();
    assert!(error.contains("no-such-layer"), "{error}");
}
