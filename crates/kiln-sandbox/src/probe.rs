//! What the machine offers: small questions for `kiln doctor`. They return values and print nothing.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::overlay::mount_detached;

/// A kernel release, as far as it can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// The whole release, e.g. `6.18.44-generic`.
    pub release: String,
}

impl KernelVersion {
    /// The oldest kernel that has what a sandbox needs: `mount_setattr(2)`, after `userxattr` (5.11) and `volatile` (5.10).
    pub const OLDEST: (u32, u32) = (5, 12);

    /// Whether a sandbox can be set up on it.
    pub fn is_supported(&self) -> bool {
        (self.major, self.minor) >= Self::OLDEST
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
            release: release.to_owned(),
        })
    }
}

/// The running kernel; `None` when its release can't be read.
pub fn kernel_version() -> Option<KernelVersion> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    KernelVersion::parse(release.trim())
}

/// Mounts an overlay of empty directories below `directory` (which must be writable) to see whether it can be done.
///
/// # Errors
/// What [`crate::spawn`] would fail with, or the directories can't be made.
pub fn overlay(directory: &Path) -> Result<(), Error> {
    let root = directory.join(format!("probe-{}", std::process::id()));
    let paths = ["lower", "upper", "work"].map(|name| root.join(name));
    let result = paths
        .iter()
        .try_for_each(std::fs::create_dir_all)
        .map_err(Error::system("make directories to probe overlayfs"))
        .and_then(|()| mount_detached(&paths[..1], Some((&paths[1], &paths[2]))).map(drop));
    // Left-overs of a probe are a few empty directories.
    let _ = std::fs::remove_dir_all(&root);
    result
}

/// Whether ordinary users may create user namespaces, as far as the kernel's settings tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserNamespaces {
    /// Nothing is known that forbids them.
    Allowed,
    /// This setting forbids or cripples them.
    Restricted {
        /// The setting and its value.
        setting: String,
    },
}

/// Settings that forbid user namespaces, with the value that does.
const RESTRICTIONS: [(&str, &str); 3] = [
    ("/proc/sys/user/max_user_namespaces", "0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// See [`UserNamespaces`].
pub fn user_namespaces() -> UserNamespaces {
    for (file, forbidding) in RESTRICTIONS {
        let value = std::fs::read_to_string(file).unwrap_or_default();
        if value.trim() == forbidding {
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            return UserNamespaces::Restricted { setting: format!("{name} = {forbidding}") };
        }
    }
    UserNamespaces::Allowed
}

/// The setting that forbids user namespaces, or nothing.
pub(crate) fn restriction() -> String {
    match user_namespaces() {
        UserNamespaces::Allowed => String::new(),
        UserNamespaces::Restricted { setting } => setting,
    }
}

/// Whether the kernel has system call filters.
pub fn seccomp() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

/// Which control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// The unified hierarchy.
    V2,
    /// Hierarchies per controller, perhaps with a unified one beside them.
    V1,
    /// None.
    Unmounted,
}

/// See [`CgroupVersion`].
pub fn cgroup_version() -> CgroupVersion {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        CgroupVersion::V2
    } else if std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
        CgroupVersion::V1
    } else {
        CgroupVersion::Unmounted
    }
}

/// Where `tool` (`newuidmap`, `newgidmap`) is along `search_path`, a value of `PATH`.
///
/// # Errors
/// `NotFound` when it is in none of the directories.
pub fn find_tool(tool: &str, search_path: &OsStr) -> io::Result<PathBuf> {
    std::env::split_paths(search_path)
        .map(|directory| directory.join(tool))
        .find(|path| path.is_file())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let version = |release| KernelVersion::parse(release).expect("a release");
        assert!(version("6.18.44-fc").is_supported());
        assert!(version("10.0").is_supported());
        assert!(version("5.15.0-91-generic").is_supported());
        assert!(!version("5.10.0-28-amd64").is_supported());
        assert_eq!(KernelVersion::parse("unknown"), None);
    }

    #[test]
    fn this_machine_answers() {
        assert!(kernel_version().is_some());
        assert!(seccomp());
        let missing = find_tool("no-such-tool", OsStr::new("/usr/bin:/bin"));
        assert_eq!(missing.map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    }
}
