//! The setup of a sandbox as a printable list of operations.
//!
//! [`plan`] is pure: it turns a [`Spec`] into the descriptors that the parent has to open ([`Source`]) and the operations
//! that the child plays in order ([`SetupOp`]); all strings are built here, so that the child allocates nothing. Printed
//! (`Display`), an operation reads as "can't …" continues, which is how errors name it.
//!
//! Order matters in four places: `/proc` is created before the mount namespace is left (inside a user namespace the kernel
//! demands that another one be visible); sub-trees of overlays are picked while there is a place to attach them; the system call
//! filter goes in while `CAP_SYS_ADMIN` is held, so that `no_new_privs` stays off and setuid programs work; the death
//! signal is set again after the user has changed, which clears it.

mod plan;

use std::ffi::CString;
use std::fmt;

use rustix::mount::MountAttrFlags;

use crate::capability::CapabilitySet;
use crate::error::Error;
use crate::spec::{ResourceLimit, Spec};
use crate::sys::StringArray;

pub(crate) use plan::{Plan, Source, inside, names, plan};

/// Where a sandbox is started from: decides what may be mounted and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As root of the initial user namespace.
    Root,
    /// As root of a user namespace: no device nodes, no fresh `/sys`; the host's are bound.
    UserNamespace,
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
#[expect(missing_docs, reason = "each variant's fields are what its sentence in `Display` says")]
pub enum SetupOp {
    /// All signals get their default action.
    ResetSignals,
    /// SIGKILL when the thread that started the sandbox ends, however it ends.
    DieWithParent,
    /// A session of its own, without terminal.
    NewSession,
    /// Standard input, output and error.
    ConnectStreams,
    /// Whatever else was open in the parent is closed.
    CloseDescriptors,
    /// The mask of permission bits that new files don't get.
    Umask(u32),
    /// A mount namespace with nothing in it.
    EnterMountNamespace,
    /// The host name.
    SetHostname(CString),
    /// The loopback device.
    LoopbackUp,
    /// A file system is created, and attached later.
    CreateFilesystem { filesystem: Filesystem, into: Handle },
    /// A part of a detached overlay is picked. `scratch` is a directory to attach it to for a moment.
    Select { tree: Handle, subtree: Handle, scratch: CString, into: Handle },
    /// The root file system becomes `/`.
    EnterRoot { rootfs: Handle },
    /// A mount point below an earlier mount is made when it is missing; prefixes from the top down.
    MakeMountPoint { prefixes: Vec<CString>, kind: MountPointKind },
    /// A detached mount is attached.
    Attach { handle: Handle, at: CString },
    /// A file system is created and attached.
    Mount { filesystem: Filesystem, at: CString },
    /// A character device.
    MakeDevice { path: CString, major: u32, minor: u32 },
    /// A block device.
    MakeBlockDevice { path: CString, major: u32, minor: u32 },
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
    /// A limit of the kernel's.
    Limit(ResourceLimit),
    /// A user namespace with the same ids, in which an emulator is registered.
    EnterUserNamespace { namespace: Handle },
    /// The bounding set.
    LimitCapabilities(CapabilitySet),
    /// The system call filter.
    InstallFilter,
    /// Supplementary groups; left alone where the user namespace forbids setting any and there are none but the primary one.
    SetGroups { groups: Vec<u32>, primary: u32 },
    /// User and primary group, all four of each.
    SetUser { uid: u32, gid: u32 },
    /// A change of the user takes no capabilities away.
    KeepCapabilities,
    /// All that are permitted become effective and stay so in programs that are started.
    RaiseCapabilities,
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
            Self::CloseDescriptors => write!(out, "close all other descriptors"),
            Self::Umask(mask) => write!(out, "set umask {mask:03o}"),
            Self::EnterMountNamespace => write!(out, "enter an empty mount namespace"),
            Self::SetHostname(name) => write!(out, "set host name {}", text(name)),
            Self::LoopbackUp => write!(out, "bring the loopback device up"),
            Self::CreateFilesystem { filesystem, .. } => {
                write!(out, "create {filesystem} ({})", filesystem.details())
            }
            Self::Select { subtree, .. } => write!(out, "select {}", subtree.label),
            Self::EnterRoot { rootfs } => write!(out, "enter {}", rootfs.label),
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
                write!(out, "mount {filesystem} on {} ({})", text(at), filesystem.details())
            }
            Self::MakeDevice { path, major, minor } => {
                write!(out, "make device {} ({major}:{minor})", text(path))
            }
            Self::MakeBlockDevice { path, major, minor } => {
                write!(out, "make block device {} ({major}:{minor})", text(path))
            }
            Self::Link { path, target } => write!(out, "link {} to {}", text(path), text(target)),
            Self::MaskFile(path) | Self::MaskDirectory(path) => write!(out, "mask {}", text(path)),
            Self::MakeReadOnly(path) => write!(out, "make {} read-only", text(path)),
            Self::ChangeDirectory(path) => write!(out, "change to directory {}", text(path)),
            Self::Limit(ResourceLimit { resource, soft, hard }) => {
                let value = |value: &Option<u64>| {
                    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
                };
                write!(out, "limit {} to {}:{}", resource.name, value(soft), value(hard))
            }
            Self::EnterUserNamespace { namespace } => write!(out, "enter {}", namespace.label),
            Self::LimitCapabilities(set) => write!(out, "limit capabilities to {set}"),
            Self::InstallFilter => write!(out, "install the system call filter"),
            Self::SetGroups { groups, .. } => write!(out, "set supplementary groups {groups:?}"),
            Self::SetUser { uid, gid } => write!(out, "set user {uid}:{gid}"),
            Self::KeepCapabilities => write!(out, "keep capabilities"),
            Self::RaiseCapabilities => write!(out, "raise capabilities"),
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
