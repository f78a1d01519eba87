//! The setup of a sandbox as a printable list of operations.
//!
//! [`plan`] is pure: it turns a [`Spec`] into the descriptors that the parent has to open ([`Source`]) and the operations
//! that the child plays in order ([`SetupOp`]); all strings are built here, so that the child allocates nothing. Printed
//! (`Display`), an operation reads as "can't …" continues, which is how errors name it.
//!
//! Order matters in four places: `/proc` is created before the old root goes (inside a user namespace the kernel demands
//! that another one be visible); sub-trees of overlays are picked while there is a place to attach them; the system call
//! filter goes in while `CAP_SYS_ADMIN` is held, so that `no_new_privs` stays off and setuid programs work; the death
//! signal is set again after the user has changed, which clears it.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::mount::MountAttrFlags;

use crate::capability::{self, CapabilitySet};
use crate::error::Error;
use crate::spec::{Access, Mount, MountKind, Network, Privileges, Spec, Stdio};
use crate::sys::StringArray;

/// Where a sandbox is started from: decides what may be mounted and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As root of the initial user namespace.
    Root,
    /// As root of a user namespace: no device nodes, no fresh `/sys`; the host's are bound.
    UserNamespace,
}

/// A descriptor that the parent opens before the child starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The root file system, joined and detached.
    Rootfs,
    /// The tree of `spec.mounts[index]`, detached.
    Mount(usize),
    /// The selected path inside the overlay of `spec.mounts[index]`.
    Selected(usize),
    /// A recursive detached copy of a mount of the host.
    Host(&'static str, Access),
}

/// A descriptor by its place in the child's table: the parent's sources first, then those that the child makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    pub(crate) index: usize,
    label: String,
}

/// A file system to be created, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    pub(crate) name: CString,
    pub(crate) options: Vec<(CString, CString)>,
    pub(crate) attributes: MountAttrFlags,
}

/// What a mount point has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountPointKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// What the mount's own root is.
    Like(Handle),
}

/// One step of a sandbox' setup. `Display` names it in words.
#[derive(Debug)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant's fields are what its sentence in `Display` says"
)]
pub enum SetupOp {
    /// All signals get their default action.
    ResetSignals,
    /// SIGKILL when the thread that started the sandbox ends, however it ends.
    DieWithParent,
    /// A session of its own, without terminal.
    NewSession,
    /// Standard input, output and error.
    ConnectStreams,
    /// The mask of permission bits that new files don't get.
    Umask(u32),
    /// Nothing that is mounted from here on reaches the host.
    PrivateMounts,
    /// The host name.
    SetHostname(CString),
    /// The loopback device.
    LoopbackUp,
    /// A file system is created, and attached later.
    CreateFilesystem {
        filesystem: Filesystem,
        into: Handle,
    },
    /// A part of a detached overlay is picked. `scratch` is any directory that is there.
    Select {
        tree: Handle,
        subtree: Handle,
        scratch: CString,
        into: Handle,
    },
    /// The root file system becomes `/`; the host's tree is gone from here on. `scratch` is any directory that is there.
    EnterRoot { rootfs: Handle, scratch: CString },
    /// A mount point below an earlier mount is made when it is missing; prefixes from the top down.
    MakeMountPoint {
        prefixes: Vec<CString>,
        kind: MountPointKind,
    },
    /// A detached mount is attached.
    Attach { handle: Handle, at: CString },
    /// A file system is created and attached.
    Mount { filesystem: Filesystem, at: CString },
    /// A character device.
    MakeDevice {
        path: CString,
        major: u32,
        minor: u32,
    },
    /// A symlink.
    Link { path: CString, target: CString },
    /// A file reads as empty, where it exists.
    MaskFile(CString),
    /// A directory shows as empty and read-only, where it exists.
    MaskDirectory(CString),
    /// A path can't be written to any more, where it exists.
    MakeReadOnly(CString),
    /// The working directory.
    ChangeDirectory(CString),
    /// The bounding set.
    LimitCapabilities(CapabilitySet),
    /// The system call filter.
    InstallFilter,
    /// Supplementary groups; left alone where the user namespace forbids setting any and there are none.
    SetGroups(Vec<u32>),
    /// User and primary group, all four of each.
    SetUser { uid: u32, gid: u32 },
    /// The permitted and effective set.
    SetCapabilities(CapabilitySet),
    /// The first candidate that can be executed.
    Execute(Program),
}

/// The program to execute.
#[derive(Debug)]
pub struct Program {
    /// Paths to try in order.
    pub(crate) candidates: Vec<CString>,
    pub(crate) args: StringArray,
    pub(crate) env: StringArray,
    /// The `PATH` that the candidates are from.
    pub(crate) searched: Option<String>,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name.to_string_lossy())
    }
}

impl Filesystem {
    /// Options and flags, as mount(8) would be given them.
    fn details(&self) -> String {
        let mut words: Vec<String> = self
            .options
            .iter()
            .map(|(key, value)| match value.to_bytes() {
                b"" => key.to_string_lossy().into_owned(),
                _ => format!("{}={}", key.to_string_lossy(), value.to_string_lossy()),
            })
            .collect();
        for (flag, word) in [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, "ro"),
            (MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
            (MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
        ] {
            if self.attributes.contains(flag) {
                words.push(word.to_owned());
            }
        }
        words.join(",")
    }
}

impl fmt::Display for SetupOp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Self::ResetSignals => write!(out, "reset signal actions"),
            Self::DieWithParent => write!(out, "tie its life to kiln's"),
            Self::NewSession => write!(out, "start a session"),
            Self::ConnectStreams => write!(out, "connect the standard streams"),
            Self::Umask(mask) => write!(out, "set umask {mask:03o}"),
            Self::PrivateMounts => write!(out, "make mounts private"),
            Self::SetHostname(name) => write!(out, "set host name {}", text(name)),
            Self::LoopbackUp => write!(out, "bring the loopback device up"),
            Self::CreateFilesystem { filesystem, .. } => {
                write!(out, "create {filesystem} ({})", filesystem.details())
            }
            Self::Select { subtree, .. } => write!(out, "select {}", subtree.label),
            Self::EnterRoot { rootfs, .. } => write!(out, "enter {}", rootfs.label),
            Self::MakeMountPoint { prefixes, kind } => {
                let kind = match kind {
                    MountPointKind::Directory => "directory",
                    MountPointKind::File => "file",
                    MountPointKind::Like(_) => "mount point",
                };
                let path = prefixes.last().map(text).unwrap_or_default();
                write!(out, "make {kind} {path}")
            }
            Self::Attach { handle, at } => write!(out, "mount {} on {}", handle.label, text(at)),
            Self::Mount { filesystem, at } => {
                write!(
                    out,
                    "mount {filesystem} on {} ({})",
                    text(at),
                    filesystem.details()
                )
            }
            Self::MakeDevice { path, major, minor } => {
                write!(out, "make device {} ({major}:{minor})", text(path))
            }
            Self::Link { path, target } => write!(out, "link {} to {}", text(path), text(target)),
            Self::MaskFile(path) | Self::MaskDirectory(path) => write!(out, "mask {}", text(path)),
            Self::MakeReadOnly(path) => write!(out, "make {} read-only", text(path)),
            Self::ChangeDirectory(path) => write!(out, "change to directory {}", text(path)),
            Self::LimitCapabilities(set) => write!(out, "limit capabilities to {set}"),
            Self::InstallFilter => write!(out, "install the system call filter"),
            Self::SetGroups(groups) => write!(out, "set supplementary groups {groups:?}"),
            Self::SetUser { uid, gid } => write!(out, "set user {uid}:{gid}"),
            Self::SetCapabilities(set) => write!(out, "set capabilities {set}"),
            Self::Execute(program) => {
                let args: Vec<_> = program.args.strings().iter().map(text).collect();
                write!(out, "execute {args:?}")
            }
        }
    }
}

/// The operations that set up `spec`, in order, for printing. [`crate::spawn`] plays the same list.
///
/// # Errors
/// A path that is not absolute, a NUL byte, or no command.
pub fn setup_ops(spec: &Spec, mode: Mode) -> Result<Vec<SetupOp>, Error> {
    plan(spec, mode).map(|plan| plan.ops)
}

/// What the parent opens and the child plays.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sources: Vec<Source>,
    /// How many descriptors the child makes itself.
    pub(crate) made: usize,
    pub(crate) ops: Vec<SetupOp>,
}

pub(crate) fn plan(spec: &Spec, mode: Mode) -> Result<Plan, Error> {
    let mut builder = Builder::new(spec, mode);
    builder.process_basics()?;
    builder.enter_root()?;
    builder.devices()?;
    builder.sys()?;
    for (index, mount) in spec.mounts.iter().enumerate() {
        builder.mount(index, mount)?;
    }
    builder.confine();
    builder.command()?;
    Ok(Plan {
        sources: builder.sources,
        made: builder.made,
        ops: builder.ops,
    })
}

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Character devices of every sandbox: path, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
];
const MASKED_FILES: [&str; 7] = [
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
];
const MASKED_DIRECTORIES: [&str; 5] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where a program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Builder<'a> {
    spec: &'a Spec,
    mode: Mode,
    sources: Vec<Source>,
    source_count: usize,
    made: usize,
    ops: Vec<SetupOp>,
    /// Handles of `spec.mounts`, as they are attached; none for a tmpfs.
    mounts: Vec<Option<Handle>>,
    proc: Option<Handle>,
}

impl<'a> Builder<'a> {
    fn new(spec: &'a Spec, mode: Mode) -> Self {
        // Sources come first in the child's table, so their number is needed before the first handle that it makes.
        let mut sources = vec![Source::Rootfs];
        for (index, mount) in spec.mounts.iter().enumerate() {
            match &mount.kind {
                MountKind::Bind { .. } => sources.push(Source::Mount(index)),
                MountKind::Overlay { selector, .. } => {
                    sources.push(Source::Mount(index));
                    if !selector.as_os_str().is_empty() {
                        sources.push(Source::Selected(index));
                    }
                }
                MountKind::Tmpfs { .. } => {}
            }
        }
        if mode == Mode::UserNamespace {
            sources.extend(DEVICES.map(|(path, ..)| Source::Host(path, Access::ReadWrite)));
            let access = match spec.privileges {
                Privileges::Default => Access::ReadOnly,
                Privileges::Insecure => Access::ReadWrite,
            };
            sources.push(Source::Host("/sys", access));
        }
        Self {
            spec,
            mode,
            source_count: sources.len(),
            sources,
            made: 0,
            ops: Vec::new(),
            mounts: Vec::new(),
            proc: None,
        }
    }

    fn handle(&self, source: &Source, label: String) -> Handle {
        let index = self.sources.iter().position(|other| other == source);
        Handle {
            index: index.expect("every source was listed by `new`"),
            label,
        }
    }

    fn make_handle(&mut self, label: String) -> Handle {
        self.made += 1;
        Handle {
            index: self.source_count + self.made - 1,
            label,
        }
    }

    fn process_basics(&mut self) -> Result<(), Error> {
        self.ops.push(SetupOp::ResetSignals);
        self.ops.push(SetupOp::DieWithParent);
        if self.spec.stdio == Stdio::Piped {
            self.ops.push(SetupOp::NewSession);
            self.ops.push(SetupOp::ConnectStreams);
        }
        // Modes of what is made below are exact.
        self.ops.push(SetupOp::Umask(0));
        self.ops.push(SetupOp::PrivateMounts);
        self.ops.push(SetupOp::SetHostname(c_string(
            &self.spec.hostname,
            "the host name",
        )?));
        if self.spec.network == Network::None {
            self.ops.push(SetupOp::LoopbackUp);
        }
        Ok(())
    }

    fn enter_root(&mut self) -> Result<(), Error> {
        let scratch = c_string(&self.spec.rootfs.upper, "the upper directory")?;
        let proc = self.make_handle("proc".to_owned());
        let filesystem = filesystem("proc", &[], NOSUID | NODEV | NOEXEC);
        self.ops.push(SetupOp::CreateFilesystem {
            filesystem,
            into: proc.clone(),
        });
        for (index, mount) in self.spec.mounts.iter().enumerate() {
            let handle = self.open_mount(index, mount, &scratch);
            self.mounts.push(handle);
        }
        let rootfs = self.handle(
            &Source::Rootfs,
            format!(
                "root file system of {} layers",
                self.spec.rootfs.lowers.len()
            ),
        );
        self.ops.push(SetupOp::EnterRoot { rootfs, scratch });
        self.ops.push(SetupOp::Attach {
            handle: proc.clone(),
            at: constant("/proc"),
        });
        self.proc = Some(proc);
        Ok(())
    }

    fn open_mount(&mut self, index: usize, mount: &Mount, scratch: &CString) -> Option<Handle> {
        match &mount.kind {
            MountKind::Bind {
                source,
                selector,
                access,
                ..
            } => {
                let label = format!(
                    "{}{}",
                    inside(source, selector).display(),
                    read_only(*access)
                );
                Some(self.handle(&Source::Mount(index), label))
            }
            MountKind::Overlay {
                lowers,
                writable,
                selector,
            } => {
                let access = if writable.is_some() {
                    Access::ReadWrite
                } else {
                    Access::ReadOnly
                };
                let layers = format!("overlay of {} layers{}", lowers.len(), read_only(access));
                let tree = self.handle(&Source::Mount(index), layers.clone());
                if selector.as_os_str().is_empty() {
                    return Some(tree);
                }
                let label = format!("{} in {layers}", selector.display());
                let subtree = self.handle(&Source::Selected(index), label.clone());
                let into = self.make_handle(label);
                self.ops.push(SetupOp::Select {
                    tree,
                    subtree,
                    scratch: scratch.clone(),
                    into: into.clone(),
                });
                Some(into)
            }
            MountKind::Tmpfs { .. } => None,
        }
    }

    /// Returns the path without `.` and `..`.
    fn make_mount_point(&mut self, path: &Path, kind: MountPointKind) -> Result<CString, Error> {
        let mut prefixes = Vec::new();
        let mut prefix = PathBuf::from("/");
        for name in names(path)? {
            prefix.push(name);
            prefixes.push(c_string(&prefix, "a mount point")?);
        }
        let Some(at) = prefixes.last().cloned() else {
            let source = rustix::io::Errno::BUSY.into();
            return Err(Error::MountPoint {
                path: path.to_owned(),
                source,
            });
        };
        self.ops.push(SetupOp::MakeMountPoint { prefixes, kind });
        Ok(at)
    }

    fn devices(&mut self) -> Result<(), Error> {
        let dev = filesystem("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID);
        self.ops.push(SetupOp::Mount {
            filesystem: dev,
            at: constant("/dev"),
        });
        for (path, major, minor) in DEVICES {
            match self.mode {
                Mode::Root => {
                    self.ops.push(SetupOp::MakeDevice {
                        path: constant(path),
                        major,
                        minor,
                    });
                }
                Mode::UserNamespace => {
                    let source = Source::Host(path, Access::ReadWrite);
                    let handle = self.handle(&source, format!("the host's {path}"));
                    let at = self.make_mount_point(Path::new(path), MountPointKind::File)?;
                    self.ops.push(SetupOp::Attach { handle, at });
                }
            }
        }
        for (path, target) in LINKS {
            self.ops.push(SetupOp::Link {
                path: constant(path),
                target: constant(target),
            });
        }
        let pts: &[(&str, &str)] = match self.mode {
            Mode::Root => &[
                ("newinstance", ""),
                ("ptmxmode", "0666"),
                ("mode", "0620"),
                ("gid", "5"),
            ],
            // The terminals' group need not be mapped.
            Mode::UserNamespace => &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")],
        };
        for (path, filesystem) in [
            ("/dev/pts", filesystem("devpts", pts, NOSUID | NOEXEC)),
            (
                "/dev/shm",
                filesystem(
                    "tmpfs",
                    &[("mode", "1777"), ("size", "65536k")],
                    NOSUID | NODEV | NOEXEC,
                ),
            ),
            (
                "/dev/mqueue",
                filesystem("mqueue", &[], NOSUID | NODEV | NOEXEC),
            ),
        ] {
            let at = self.make_mount_point(Path::new(path), MountPointKind::Directory)?;
            self.ops.push(SetupOp::Mount { filesystem, at });
        }
        Ok(())
    }

    fn sys(&mut self) -> Result<(), Error> {
        let at = constant("/sys");
        let op = match (self.mode, self.spec.privileges) {
            (Mode::Root, privileges) => {
                let mut attributes = NOSUID | NODEV | NOEXEC;
                if privileges == Privileges::Default {
                    attributes |= RDONLY;
                }
                SetupOp::Mount {
                    filesystem: filesystem("sysfs", &[], attributes),
                    at,
                }
            }
            (Mode::UserNamespace, privileges) => {
                let access = match privileges {
                    Privileges::Default => Access::ReadOnly,
                    Privileges::Insecure => Access::ReadWrite,
                };
                let label = format!("the host's /sys{}", read_only(access));
                SetupOp::Attach {
                    handle: self.handle(&Source::Host("/sys", access), label),
                    at,
                }
            }
        };
        self.ops.push(op);
        Ok(())
    }

    fn mount(&mut self, index: usize, mount: &Mount) -> Result<(), Error> {
        match &mount.kind {
            MountKind::Tmpfs { size_bytes, mode } => {
                let at = self.make_mount_point(&mount.destination, MountPointKind::Directory)?;
                let mut options = vec![("mode", format!("{mode:o}"))];
                options.extend(size_bytes.map(|size| ("size", size.to_string())));
                let options: Vec<_> = options
                    .iter()
                    .map(|(key, value)| (*key, value.as_str()))
                    .collect();
                let filesystem = filesystem("tmpfs", &options, NOSUID | NODEV);
                self.ops.push(SetupOp::Mount { filesystem, at });
            }
            MountKind::Bind { .. } | MountKind::Overlay { .. } => {
                let handle = self.mounts[index].clone();
                let handle = handle.expect("binds and overlays have handles");
                let kind = MountPointKind::Like(handle.clone());
                let at = self.make_mount_point(&mount.destination, kind)?;
                self.ops.push(SetupOp::Attach { handle, at });
            }
        }
        Ok(())
    }

    fn confine(&mut self) {
        if self.spec.privileges == Privileges::Insecure {
            return;
        }
        self.ops
            .extend(MASKED_FILES.map(|path| SetupOp::MaskFile(constant(path))));
        self.ops
            .extend(MASKED_DIRECTORIES.map(|path| SetupOp::MaskDirectory(constant(path))));
        self.ops
            .extend(READ_ONLY.map(|path| SetupOp::MakeReadOnly(constant(path))));
    }

    fn command(&mut self) -> Result<(), Error> {
        let process = &self.spec.process;
        names(&process.cwd)?;
        let cwd = c_string(&process.cwd, "the working directory")?;
        self.ops.push(SetupOp::ChangeDirectory(cwd));
        self.ops.push(SetupOp::Umask(0o022));
        let confined = self.spec.privileges == Privileges::Default;
        if confined {
            self.ops
                .push(SetupOp::LimitCapabilities(capability::DEFAULT));
            self.ops.push(SetupOp::InstallFilter);
        }
        self.ops.push(SetupOp::SetGroups(process.groups.clone()));
        self.ops.push(SetupOp::SetUser {
            uid: process.uid,
            gid: process.gid,
        });
        if confined {
            let set = if process.uid == 0 {
                capability::DEFAULT
            } else {
                CapabilitySet(0)
            };
            self.ops.push(SetupOp::SetCapabilities(set));
        }
        self.ops.push(SetupOp::DieWithParent);
        self.ops.push(SetupOp::Execute(program(self.spec)?));
        Ok(())
    }
}

fn read_only(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "",
        Access::ReadOnly => " (read-only)",
    }
}

fn filesystem(name: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Filesystem {
    let options = options
        .iter()
        .map(|(key, value)| (constant(key), constant(value)))
        .collect();
    Filesystem {
        name: constant(name),
        options,
        attributes,
    }
}

fn constant(text: &str) -> CString {
    CString::new(text).expect("this crate's own strings have no NUL byte")
}

fn c_string(text: impl AsRef<OsStr>, what: &'static str) -> Result<CString, Error> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Error::NulByte { what })
}

/// A selector's path in its source, for messages.
pub(crate) fn inside(source: &Path, selector: &Path) -> PathBuf {
    let selector = selector.strip_prefix("/").unwrap_or(selector);
    if selector.as_os_str().is_empty() {
        source.to_owned()
    } else {
        source.join(selector)
    }
}

/// The names along an absolute path, `.` and `..` resolved by name alone.
pub(crate) fn names(path: &Path) -> Result<Vec<&OsStr>, Error> {
    if !path.is_absolute() {
        return Err(Error::NotAbsolute {
            path: path.to_owned(),
        });
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

fn program(spec: &Spec) -> Result<Program, Error> {
    let process = &spec.process;
    let name = process.args.first().ok_or(Error::NoArguments)?;
    let path = process
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value);
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |value| value.as_os_str());
    let (candidates, searched) = if name.as_bytes().contains(&b'/') {
        (vec![c_string(name, "an argument")?], None)
    } else {
        // Relative entries are left out: what a build step runs must not depend on where it stands.
        let candidates: Result<Vec<_>, _> = std::env::split_paths(path)
            .filter(|directory| directory.is_absolute() && !name.is_empty())
            .map(|directory| c_string(directory.join(name), "an argument"))
            .collect();
        (candidates?, Some(path.to_string_lossy().into_owned()))
    };
    let args: Result<Vec<_>, _> = process
        .args
        .iter()
        .map(|argument| c_string(argument, "an argument"))
        .collect();
    let env: Result<Vec<_>, _> = process
        .env
        .iter()
        .map(|(key, value)| {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            c_string(pair, "an environment variable")
        })
        .collect();
    Ok(Program {
        candidates,
        args: StringArray::new(args?),
        env: StringArray::new(env?),
        searched,
    })
}
