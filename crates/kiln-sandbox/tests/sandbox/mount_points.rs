//! Mount points vanish from the layer; what the command did stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use kiln_sandbox::{Access, Spec};

use crate::fixture::{Fixture, bind, is_root, output, run, tmpfs, tree};

/// An image with an old `/opt`, whose times tell whether somebody wrote there.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.image().join("opt/old")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["opt/old", "opt"] {
        fs::File::open(fixture.image().join(name)).unwrap().set_modified(old).unwrap();
    }
    fixture
}

fn left(mut spec: Spec, destinations: &[&str]) -> Vec<String> {
    spec.mounts = destinations.iter().map(|path| tmpfs(path)).collect();
    output(&spec);
    tree(&spec.rootfs.upper)
}

#[test]
fn nothing_is_left_of_mount_points() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let spec = fixture.sh("touch /opt/old/cache/x /srv/deep/er/x; stat -c %Y /opt /opt/old");
    assert!(left(spec, &["/opt/old/cache", "/srv/deep/er"]).is_empty());
}

#[test]
fn the_command_sees_its_parents_unchanged() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let mut spec = fixture.sh("stat -c %Y /opt /opt/old");
    spec.mounts = vec![tmpfs("/opt/old/cache")];
    assert_eq!(output(&spec), "1000000000\n1000000000\n");
}

#[test]
fn what_was_written_beside_stays() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let spec = fixture.sh("touch /opt/old/beside");
    assert_eq!(left(spec, &["/opt/old/cache"]), ["opt/", "opt/old/", "opt/old/beside"]);
    let spec = fixture.sh("touch /srv/deep/beside");
    assert_eq!(left(spec, &["/srv/deep/cache"]), ["srv/", "srv/deep/", "srv/deep/beside"]);
    let spec = fixture.sh("chmod 700 /opt");
    let upper = spec.rootfs.upper.clone();
    assert_eq!(left(spec, &["/opt/old/cache"]), ["opt/"]);
    assert_eq!(fs::metadata(upper.join("opt")).unwrap().mode() & 0o7777, 0o700);
    // The change happened above: what was only copied up on the way is no difference.
    let spec = fixture.sh("touch /opt/file");
    assert_eq!(left(spec, &["/opt/old/cache"]), ["opt/", "opt/file"]);
    // A directory that was written to and emptied again has new times, which is a difference.
    let spec = fixture.sh("touch /opt/old/x; rm /opt/old/x");
    assert_eq!(left(spec, &["/opt/old/cache"]), ["opt/", "opt/old/"]);
}

#[test]
fn removing_a_mount_points_parent_does_not_break() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    // The mount point itself is busy; everything around it goes.
    let mut spec = fixture.sh("touch /srv/a/x; rm -rf /srv/a || true; mv /opt/old /opt/moved");
    spec.mounts = vec![tmpfs("/srv/a/cache"), tmpfs("/opt/b")];
    output(&spec);
    let paths = tree(&spec.rootfs.upper);
    assert_eq!(paths, ["opt/", "opt/moved/", "opt/old"]);
}

#[test]
fn the_specials_stay_when_the_image_lacks_them() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::bare();
    let generated = fixture.path().join("hosts");
    fs::write(&generated, "127.0.0.1 localhost\n").unwrap();
    let mut spec = fixture.sh("cat /etc/hosts");
    spec.mounts = vec![
        bind(&generated, "/etc/hosts", Access::ReadOnly),
        bind(&generated, "/etc/resolv.conf", Access::ReadOnly),
    ];
    assert_eq!(output(&spec), "127.0.0.1 localhost\n");
    assert_eq!(tree(&spec.rootfs.upper), ["dev/", "proc/", "sys/"]);
    for name in ["dev", "proc", "sys"] {
        assert_eq!(fs::metadata(spec.rootfs.upper.join(name)).unwrap().mode() & 0o7777, 0o755);
    }
    // Failing to start leaves the same.
    let mut spec = fixture.command(&["no-such-program"]);
    spec.mounts = vec![bind(&generated, "/etc/hosts", Access::ReadOnly)];
    assert!(run(&spec).is_err());
    assert_eq!(tree(&spec.rootfs.upper), ["dev/", "proc/", "sys/"]);
}

#[test]
fn links_are_followed_inside_the_root_only() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let image = fixture.image();
    let outside = fixture.directory("outside");
    symlink("../run/resolve/stub.conf", image.join("etc/resolv.conf")).unwrap();
    symlink(&outside, image.join("absolute")).unwrap();
    symlink("../../../../../../up", image.join("relative")).unwrap();
    symlink("loop", image.join("loop")).unwrap();
    let generated = fixture.path().join("generated");
    fs::write(&generated, "generated\n").unwrap();
    let mut spec = fixture.sh("cat /etc/resolv.conf; ls -d /up/b");
    spec.mounts = vec![
        bind(&generated, "/etc/resolv.conf", Access::ReadOnly),
        tmpfs("/absolute/a"),
        tmpfs("/relative/b"),
    ];
    assert_eq!(output(&spec), "generated\n/up/b\n");
    assert!(tree(&spec.rootfs.upper).is_empty(), "{:?}", tree(&spec.rootfs.upper));
    assert!(tree(&outside).is_empty());
    let mut spec = fixture.sh("true");
    spec.mounts = vec![tmpfs("/loop/a")];
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"mount point `/loop/a`: Too many levels of symbolic links (os error 40)");
}

#[test]
fn kinds_have_to_agree() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let mut spec = fixture.sh("true");
    spec.mounts = vec![tmpfs("/etc/passwd")];
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"mount point `/etc/passwd`: Not a directory (os error 20)");
    spec = fixture.sh("true");
    spec.mounts = vec![bind("/etc/hostname", "/etc", Access::ReadOnly)];
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"mount point `/etc`: Is a directory (os error 21)");
    spec = fixture.sh("true");
    spec.mounts = vec![tmpfs("/..")];
    insta::assert_snapshot!(run(&spec).map(|_| ()).unwrap_err(), @"mount point `/..`: Device or resource busy (os error 16)");
}

#[test]
fn a_missing_working_directory_is_made_and_stays() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let mut spec = fixture.sh("pwd");
    spec.process.cwd = "/opt/new/here".into();
    spec.process.uid = 1000;
    spec.process.gid = 1001;
    assert_eq!(output(&spec), "/opt/new/here\n");
    assert_eq!(tree(&spec.rootfs.upper), ["opt/", "opt/new/", "opt/new/here/"]);
    let made = fs::metadata(spec.rootfs.upper.join("opt/new/here")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (1000, 1001, 0o755));
    let kept = fs::metadata(spec.rootfs.upper.join("opt")).unwrap();
    assert_eq!((kept.uid(), kept.mtime()), (0, 1_000_000_000));
    // Below a mount it is the mount's business.
    let mut spec = fixture.sh("pwd");
    spec.mounts = vec![tmpfs("/src")];
    spec.process.cwd = "/src".into();
    assert_eq!(output(&spec), "/src\n");
    assert!(tree(&spec.rootfs.upper).is_empty());
}
