//! Looking at the machine. Nothing stays changed: what is tried is tried in a temporary directory
//! below the store's file system.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, ioctl_ficlone, statfs, statvfs};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use kiln_sandbox::emulation::{Execution, execution};
use kiln_sandbox::{MACHINES, Machine};

use crate::config::Config;

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Whether kiln runs as root.
    pub(super) is_root: bool,
    /// Whether layers can be mounted.
    pub(super) overlay: Overlay,
    /// How many user namespaces a user may have; `None` when the kernel has none.
    pub(super) max_user_namespaces: Option<u64>,
    /// The setting that keeps ordinary users from making them.
    pub(super) userns_refused_by: Option<&'static str>,
    /// Subordinate user and group ids of this user.
    pub(super) subordinate_ids: (u64, u64),
    /// Whether newuidmap and newgidmap are there.
    pub(super) id_map_tools: (bool, bool),
    /// Whether the kernel has seccomp filters.
    pub(super) seccomp: bool,
    /// Which control groups are mounted.
    pub(super) cgroup: Cgroup,
    /// The disk of the store.
    pub(super) disk: Option<Disk>,
    /// What is wrong with the store, if something is.
    pub(super) store: Option<String>,
    /// Whether the CPU has instructions for sha256.
    pub(super) cpu_hashes_sha256: bool,
    /// Docker's config file, if there is one.
    pub(super) credentials: Option<PathBuf>,
    /// How programs of each machine run here, by its name in image configs; this one's come first.
    pub(super) machines: Vec<(String, Execution)>,
}

/// Whether overlayfs can be used.
#[derive(Clone, Debug)]
pub(super) enum Overlay {
    /// A mount was made.
    Works,
    /// It needs a privilege that this process does not have.
    NotTried,
    /// The kernel does not list it.
    Unknown,
    /// A mount was refused.
    Fails(String),
}

/// Which control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cgroup {
    /// The unified hierarchy.
    V2,
    /// The old ones.
    V1,
    /// None.
    None,
}

/// The disk of the store.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// The store's directory.
    pub(super) path: PathBuf,
    /// Bytes that this user may still write.
    pub(super) free_bytes: u64,
    /// Bytes in all.
    pub(super) total_bytes: u64,
    /// Type of the file system.
    pub(super) file_system: String,
    /// Whether files can share blocks; `None` when that could not be tried.
    pub(super) reflink: Option<bool>,
}

impl Observed {
    /// Looks at this machine.
    pub(super) fn look(config: &Config) -> Self {
        let root = config.root();
        let scratch = Scratch::below(&root);
        let credentials = config.docker_config().map(|path| path.join("config.json"));
        Self {
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            is_root: config.is_root(),
            overlay: overlay(config, scratch.as_ref().ok()),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            userns_refused_by: userns_refused_by(),
            subordinate_ids: (
                subordinate(config, "/etc/subuid"),
                subordinate(config, "/etc/subgid"),
            ),
            id_map_tools: (in_path(config, "newuidmap"), in_path(config, "newgidmap")),
            seccomp: read("/proc/sys/kernel/seccomp/actions_avail").is_some(),
            cgroup: cgroup(),
            disk: disk(&root, scratch.as_ref().ok()),
            store: scratch.as_ref().err().map(|error| format!("{}: {error}", root.display())),
            cpu_hashes_sha256: cpu_hashes_sha256(),
            credentials: credentials.filter(|path| path.is_file()),
            machines: scratch
                .as_ref()
                .map_or_else(|_| Vec::new(), |scratch| machines(config, scratch)),
        }
    }
}

/// A directory that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    /// In the store, or beside where it will be.
    fn below(root: &Path) -> io::Result<Self> {
        let place = root.ancestors().find(|path| path.is_dir());
        let place = place.ok_or(io::ErrorKind::NotFound)?;
        let path = place.join(format!(".kiln-doctor-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that stays is empty but for two small files, and its name says whose it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    read(path)?.parse().ok()
}

fn overlay(config: &Config, scratch: Option<&Scratch>) -> Overlay {
    let listed = read("/proc/filesystems").is_some_and(|text| text.contains("overlay"));
    let error = match scratch.map(mount_overlay) {
        Some(Ok(())) => return Overlay::Works,
        Some(Err(error)) => error,
        None => rustix::io::Errno::PERM,
    };
    match error {
        rustix::io::Errno::PERM if !config.is_root() && listed => Overlay::NotTried,
        rustix::io::Errno::NODEV => Overlay::Unknown,
        rustix::io::Errno::PERM if !listed => Overlay::Unknown,
        error => Overlay::Fails(error.to_string()),
    }
}

/// Makes an overlay as a build does, and lets it go without attaching it anywhere.
fn mount_overlay(scratch: &Scratch) -> rustix::io::Result<()> {
    let directory = |name: &str| {
        let path = scratch.0.join(name);
        fs::create_dir(&path).map(|()| path).map_err(|error| {
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
        })
    };
    let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = &context;
    fsconfig_set_string(context, "lowerdir", &lower)?;
    fsconfig_set_string(context, "upperdir", &upper)?;
    fsconfig_set_string(context, "workdir", &work)?;
    fsconfig_set_flag(context, "userxattr")?;
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(())
}

fn userns_refused_by() -> Option<&'static str> {
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Some("kernel.unprivileged_userns_clone");
    }
    let restricted = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    (restricted == Some(1)).then_some("kernel.apparmor_restrict_unprivileged_userns")
}

/// Ids that `/etc/subuid` or `/etc/subgid` give this user, by name or number.
fn subordinate(config: &Config, path: &str) -> u64 {
    let number = config.user_id.to_string();
    let text = read(path).unwrap_or_default();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let is_mine = owner == number || Some(owner) == config.user();
        is_mine.then(|| fields.nth(1)?.parse::<u64>().ok())?
    });
    ranges.sum()
}

fn in_path(config: &Config, program: &str) -> bool {
    std::env::split_paths(&config.path).any(|directory| directory.join(program).is_file())
}

fn cgroup() -> Cgroup {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Cgroup::V2
    } else if Path::new("/sys/fs/cgroup/memory").exists() {
        Cgroup::V1
    } else {
        Cgroup::None
    }
}

fn disk(root: &Path, scratch: Option<&Scratch>) -> Option<Disk> {
    let place = root.ancestors().find(|path| path.is_dir())?;
    let space = statvfs(place).ok()?;
    let is_read_only = space.f_flag.contains(StatVfsMountFlags::RDONLY);
    let free_bytes = if is_read_only { 0 } else { space.f_bavail * space.f_frsize };
    Some(Disk {
        path: root.to_owned(),
        free_bytes,
        total_bytes: space.f_blocks * space.f_frsize,
        file_system: file_system(statfs(place).ok()?.f_type as u64),
        reflink: scratch.and_then(|scratch| reflink(&scratch.0)),
    })
}

/// Names of `f_type` (statfs(2)).
fn file_system(magic: u64) -> String {
    const NAMES: [(u64, &str); 10] = [
        (0xef53, "ext4"),
        (0x9123_683e, "btrfs"),
        (0x5846_5342, "xfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlay"),
        (0x6969, "nfs"),
        (0x2fc1_2fc1, "zfs"),
        (0x6573_5546, "fuse"),
        (0xf2f5_2010, "f2fs"),
        (0xca45_1a4e, "bcachefs"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

fn reflink(directory: &Path) -> Option<bool> {
    let (from, to) = (directory.join("from"), directory.join("to"));
    fs::write(&from, [0; 4096]).ok()?;
    let (from, to) = (File::open(&from).ok()?, File::create(&to).ok()?);
    Some(ioctl_ficlone(&to, &from).is_ok())
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn cpu_hashes_sha256() -> bool {
    std::is_x86_feature_detected!("sha")
}

#[cfg(target_arch = "aarch64")]
fn cpu_hashes_sha256() -> bool {
    std::arch::is_aarch64_feature_detected!("sha2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn cpu_hashes_sha256() -> bool {
    false
}

fn machines(config: &Config, scratch: &Scratch) -> Vec<(String, Execution)> {
    let mut machines: Vec<&Machine> = MACHINES.iter().collect();
    machines.sort_by_key(|machine| !machine.is_own());
    let tried = machines.into_iter().filter_map(|machine| {
        let name = machine.architecture;
        Some((name.to_owned(), execution(name, &config.path, &scratch.0).ok()?))
    });
    tried.collect()
}
