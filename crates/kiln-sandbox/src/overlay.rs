//! Chains of layers joined by overlayfs, as detached mounts: descriptors that live without any mount namespace.
//!
//! There is one format on disk, whoever runs kiln: whiteouts are character devices 0:0 and opaque directories carry
//! `user.overlay.opaque=y` (`userxattr`). Features that would put something else than whole files into the upper directory
//! are switched off by name, because distributions differ in their defaults: `index`, `metacopy`, `redirect_dir`, `xino`.
//! With `userxattr` the kernel takes `redirect_dir=nofollow` only, which is stricter than `off`. Writable overlays are
//! `volatile`: an upper directory is harvested once, by a caller that has its own rule of durability; nothing is synced.
//!
//! Layers are passed one by one (`lowerdir+`, since Linux 6.7), so there is no limit of a page for all of their paths. Older
//! kernels get mount(2) instead, with descriptors for paths (about 200 layers fit): in a mount namespace of a thread's own,
//! where nobody sees it, and from which the mount is then taken out. The format on disk is the same.
//!
//! Follows: the kernel's Documentation/filesystems/overlayfs.rst, fsopen(2), fsconfig(2), fsmount(2).

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::CString;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    open_tree,
};

use crate::error::Error;
use crate::sys;

/// The kernel joins at most this many lower layers.
pub const MAX_LOWERS: usize = 500;

/// Features that would put something else than whole files into an upper directory.
const OPTIONS: [(&str, &str); 4] =
    [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

/// The options of mount(2) are at most this long, on every page size.
const PAGE_BYTES: usize = 4096;

/// A string option of fsconfig(2) is at most this long.
const MAX_OPTION_BYTES: usize = 255;

/// Joins `lowers` (**top-most first**), with an upper and a work directory on top when it shall be writable, into a
/// detached mount. Returns a descriptor of its root directory, for `*at` system calls; the mount lives as long as it.
///
/// A layer that comes twice counts where it is higher: it hides itself below, and the kernel takes no directory twice.
/// A single layer without an upper directory needs no overlay: the descriptor is one of the layer itself (`O_PATH`).
/// An upper directory without layers is returned as it is, too.
///
/// # Errors
/// [`Error::NoLayers`], [`Error::TooManyLayers`], [`Error::Overlay`] with the kernel's own words, or
/// [`Error::MountSource`] when a single directory can't be opened.
pub fn mount_detached(
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
) -> Result<OwnedFd, Error> {
    let lowers = distinct(lowers);
    match (&*lowers, upper_work) {
        ([], None) => Err(Error::NoLayers),
        ([only], None) => open_directory(only),
        ([], Some((upper, _))) => open_directory(upper),
        _ => join(&lowers, upper_work),
    }
}

/// As [`mount_detached`], but always a mount that can be attached somewhere.
pub(crate) fn mount_attachable(
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
) -> Result<OwnedFd, Error> {
    let lowers = distinct(lowers);
    match (&*lowers, upper_work) {
        ([], None) => Err(Error::NoLayers),
        ([only], None) => copy_mount(only),
        ([], Some((upper, _))) => copy_mount(upper),
        _ => join(&lowers, upper_work),
    }
}

/// Each layer once, where it comes first.
fn distinct(lowers: &[PathBuf]) -> Cow<'_, [PathBuf]> {
    let mut seen = HashSet::with_capacity(lowers.len());
    if lowers.iter().all(|lower| seen.insert(lower)) {
        return Cow::Borrowed(lowers);
    }
    seen.clear();
    lowers.iter().filter(|lower| seen.insert(*lower)).cloned().collect()
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::MountSource { path: path.to_owned(), source: errno.into() })
}

fn copy_mount(path: &Path) -> Result<OwnedFd, Error> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|errno| Error::MountSource { path: path.to_owned(), source: errno.into() })
}

fn join(lowers: &[PathBuf], upper_work: Option<(&Path, &Path)>) -> Result<OwnedFd, Error> {
    if lowers.len() > MAX_LOWERS {
        return Err(Error::TooManyLayers { layers: lowers.len() });
    }
    let top = upper_work.map_or_else(|| lowers[0].as_path(), |(upper, _)| upper);
    let mut messages = String::new();
    let mut joined = try_join(lowers, upper_work, &mut messages);
    if joined.is_err() && takes_layers_together() {
        joined = join_in_private_namespace(lowers, upper_work);
    }
    joined.map_err(|source| Error::Overlay {
        top: top.to_owned(),
        layers: lowers.len(),
        messages,
        source,
    })
}

/// Whether the kernel is from before `lowerdir+`.
fn takes_layers_together() -> bool {
    crate::probe::kernel_version().is_some_and(|version| (version.major, version.minor) < (6, 7))
}

/// As [`try_join`], with mount(2).
fn join_in_private_namespace(
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| {
            sys::unshare(libc::CLONE_NEWNS)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)?;
            // Any directory will do: this thread alone sees what is mounted on it, and takes it along.
            let place = &lowers[0];
            mount_together(lowers, upper_work, place)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(open_tree(CWD, place, flags)?)
        });
        joining.join().expect("the thread does not panic")
    })
}

fn mount_together(
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
    place: &Path,
) -> io::Result<()> {
    // Descriptors are short, and need no escaping of colons and commas.
    let mut opened = Vec::new();
    let mut link = |path: &Path| -> io::Result<String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        opened.push(directory);
        Ok(link)
    };
    let layers: Vec<_> = lowers.iter().map(|lower| link(lower)).collect::<io::Result<_>>()?;
    let mut options = format!("userxattr,lowerdir={}", layers.join(":"));
    for (key, value) in OPTIONS {
        write!(options, ",{key}={value}").expect("a String takes every write");
    }
    if let Some((upper, work)) = upper_work {
        let (upper, work) = (link(upper)?, link(work)?);
        write!(options, ",upperdir={upper},workdir={work},volatile")
            .expect("a String takes every write");
    }
    if options.len() >= PAGE_BYTES {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let options = CString::new(options).expect("numbers and words have no NUL byte");
    Ok(mount("kiln", place, "overlay", MountFlags::empty(), Some(options.as_c_str()))?)
}

fn try_join(
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
    messages: &mut String,
) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configured = configure(context.as_fd(), lowers, upper_work);
    if configured.is_err() {
        *messages = kernel_messages(context.as_fd());
        if messages.is_empty() {
            *messages = guess(lowers, upper_work);
        }
    }
    configured?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn configure(
    context: BorrowedFd<'_>,
    lowers: &[PathBuf],
    upper_work: Option<(&Path, &Path)>,
) -> io::Result<()> {
    // Descriptors that stand for long paths, until the kernel has looked all of them up.
    let mut opened = Vec::new();
    let mut set_path = |key: &str, path: &Path| -> io::Result<()> {
        if path.as_os_str().len() <= MAX_OPTION_BYTES {
            return Ok(fsconfig_set_string(context, key, path)?);
        }
        let directory = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        opened.push(directory);
        Ok(fsconfig_set_string(context, key, link)?)
    };
    fsconfig_set_string(context, "source", "kiln")?;
    fsconfig_set_flag(context, "userxattr")?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(context, key, value)?;
    }
    for lower in lowers {
        set_path("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = upper_work {
        set_path("upperdir", upper)?;
        set_path("workdir", work)?;
        fsconfig_set_flag(context, "volatile")?;
    }
    Ok(fsconfig_create(context)?)
}

/// What the kernel is silent about: a directory that can't be looked up, or a work directory that was used before.
fn guess(lowers: &[PathBuf], upper_work: Option<(&Path, &Path)>) -> String {
    if let Some((_, work)) = upper_work
        && work.join("work/incompat/volatile").exists()
    {
        return format!("`{}` has been used before", work.display());
    }
    let upper_work = upper_work.into_iter().flat_map(|(upper, work)| [upper, work]);
    let mut paths = lowers.iter().map(PathBuf::as_path).chain(upper_work);
    let missing = paths.find(|path| !path.is_dir());
    missing.map(|path| format!("`{}` is not a directory", path.display())).unwrap_or_default()
}

/// What the kernel has logged on this context, one message per read.
fn kernel_messages(context: BorrowedFd<'_>) -> String {
    let mut text = String::new();
    let mut buffer = [0_u8; 512];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        if length == 0 {
            break;
        }
        let message = String::from_utf8_lossy(&buffer[..length]);
        let separator = if text.is_empty() { "" } else { "; " };
        write!(text, "{separator}{}", message.trim()).expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_before_the_kernel_is_asked() {
        assert!(matches!(mount_detached(&[], None), Err(Error::NoLayers)));
        let many: Vec<_> = (0..=MAX_LOWERS)
            .map(|number| PathBuf::from(format!("/nonexistent/{number}")))
            .collect();
        assert!(matches!(mount_detached(&many, None), Err(Error::TooManyLayers { layers: 501 })));
    }

    /// The way for older kernels, which newer ones can go as well.
    #[test]
    fn layers_can_be_joined_with_the_old_system_call() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let make = |name: String| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let layers: Vec<_> = (0..150).map(|number| make(format!("a,b:{number}"))).collect();
        for (number, layer) in layers.iter().enumerate() {
            std::fs::write(layer.join(format!("file-{number}")), "").unwrap();
        }
        let (upper, work) = (make("upper".to_owned()), make("work".to_owned()));
        let root = join_in_private_namespace(&layers, Some((&upper, &work))).unwrap();
        rustix::fs::unlinkat(&root, "file-149", rustix::fs::AtFlags::empty()).unwrap();
        rustix::fs::mkdirat(&root, "made", Mode::from_raw_mode(0o700)).unwrap();
        drop(root);
        let mut names: Vec<_> =
            std::fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file-149", "made"]);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.path().to_str().unwrap()));
    }
}
