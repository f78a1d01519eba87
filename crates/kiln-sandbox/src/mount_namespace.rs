//! The mount namespace that sandboxes start from: one empty, read-only directory tree.
//!
//! A sandbox could as well start from a copy of the host's mounts and let go of them, as container runtimes do. But the
//! unmount waits until all processors have passed through the kernel, which takes milliseconds on a busy machine, and the
//! copy costs time for each of the host's mounts. So both are done once per process, here, by a thread of its own; each
//! sandbox joins this namespace, copies its one mount, and stacks its root file system on it. Nothing of the host has ever
//! been in that copy, so there is nothing to escape to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::error::Error;
use crate::sys::{self, Depth};

/// The one directory in the tree: a place to attach something for a moment.
pub(crate) const SCRATCH: &str = "/scratch";

/// The namespace, made when it is first asked for.
pub(crate) fn empty() -> Result<BorrowedFd<'static>, Error> {
    static NAMESPACE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(namespace) = NAMESPACE.get() {
        return Ok(namespace.as_fd());
    }
    let made = std::thread::spawn(make).join().expect("the thread does not panic");
    let made = made.map_err(Error::system("make a mount namespace"))?;
    Ok(NAMESPACE.get_or_init(|| made).as_fd())
}

/// Runs in a thread that ends afterwards: it has left the process' root and working directory.
fn make() -> io::Result<OwnedFd> {
    sys::unshare(libc::CLONE_NEWNS)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;

    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "755")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tree = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let name = SCRATCH.trim_start_matches('/');
    rustix::fs::mkdirat(&tree, name, Mode::from_raw_mode(0o755))?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
    sys::set_mount_attributes(tree.as_fd(), read_only, Depth::Single)?;

    // Any directory that is there will do to attach it. With "." as both arguments, the old root is stacked on the new
    // one, where it can be unmounted without a directory for it.
    let attach = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), "", rustix::fs::CWD, "/proc", attach)?;
    rustix::process::fchdir(&tree)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(namespace)
}
