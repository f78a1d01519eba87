//! What one command needs: owned values, nothing global.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::emulation::Emulator;

/// One command with the world that it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The root file system.
    pub rootfs: Rootfs,
    /// Mounted in this order, after `/proc`, `/dev` and `/sys`.
    pub mounts: Vec<Mount>,
    /// The command.
    pub process: Process,
    /// The network that it sees.
    pub network: Network,
    /// Its host name, at most 64 bytes.
    pub hostname: String,
    /// Where its standard streams go.
    pub stdio: Stdio,
    /// What the kernel lets it do.
    pub privileges: Privileges,
    /// What runs it when it is a program of another machine, and the host does not know one.
    pub emulator: Option<Emulator>,
}

/// A chain of layers with a writable one on top, joined by overlayfs.
///
/// `upper` and `work` are existing empty directories of one file system. The root directory's own mode, owner and times
/// are those of `upper`: overlayfs takes them from nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Layers below, **top-most first**, in overlayfs upper format. May be empty; at most 500.
    pub lowers: Vec<PathBuf>,
    /// Receives what the command changes.
    pub upper: PathBuf,
    /// Overlayfs' work directory: of one use, to be thrown away after it.
    pub work: PathBuf,
    /// Whether the command may change the root file system.
    pub access: Access,
}

/// Whether a mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Reads only; a recursive bind is read-only all the way down.
    ReadOnly,
}

/// Whether a bind takes the mounts below its source along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recursion {
    /// With everything that is mounted below the source.
    #[default]
    Recursive,
    /// The source's own file system only. Inside a user namespace the kernel refuses this where something is mounted
    /// below the source.
    Single,
}

/// Something mounted into the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the root file system. Symlinks on it are resolved there. It is created when missing, and removed
    /// again after the command unless something else was written beside it.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Path on the host; symlinks on it are followed, so it must be kiln's own or the user's choice.
        source: PathBuf,
        /// Path below `source`, resolved inside it: neither symlinks nor `..` lead out. Empty for `source` itself.
        selector: PathBuf,
        /// Whether it can be written to.
        access: Access,
        /// Whether mounts below come along.
        recursion: Recursion,
    },
    /// A chain of layers, e.g. the snapshot of another stage.
    Overlay {
        /// Layers, **top-most first**; at least one, at most 500.
        lowers: Vec<PathBuf>,
        /// Where writes go; without it, the mount is read-only.
        writable: Option<WritableLayer>,
        /// Path in the joined tree, resolved inside it: neither symlinks nor `..` lead out. Empty for the whole tree.
        selector: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its limit; the kernel's default is half of the memory.
        size_bytes: Option<u64>,
        /// Permission bits of its root, e.g. `0o1777`.
        mode: u32,
        /// Whether it can be written to.
        access: Access,
    },
}

/// Upper and work directory of an overlay: two empty directories of one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritableLayer {
    /// Receives what is written.
    pub upper: PathBuf,
    /// Overlayfs' work directory.
    pub work: PathBuf,
}

/// The command. Identifiers are numbers already: names were resolved against the image by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments. A program without a slash is looked up along `PATH` of `env`, in the root file system.
    pub args: Vec<OsString>,
    /// The whole environment, in this order.
    pub env: Vec<(OsString, OsString)>,
    /// Absolute working directory. Created (0755, owned by `uid`:`gid`) when missing, and then part of the layer.
    pub cwd: PathBuf,
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Limits that differ from the caller's own.
    pub limits: Vec<ResourceLimit>,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// What counts; `None` is no limit.
    pub soft: Option<u64>,
    /// Up to where the command may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// What the kernel can limit for one process, as docker names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    pub(crate) name: &'static str,
    pub(crate) number: rustix::process::Resource,
}

impl Resource {
    /// The resource of a name in lower case without `RLIMIT_`, e.g. `nofile`.
    pub fn named(name: &str) -> Option<Self> {
        use rustix::process::Resource as Number;
        let all = [
            ("core", Number::Core),
            ("cpu", Number::Cpu),
            ("data", Number::Data),
            ("fsize", Number::Fsize),
            ("locks", Number::Locks),
            ("memlock", Number::Memlock),
            ("msgqueue", Number::Msgqueue),
            ("nice", Number::Nice),
            ("nofile", Number::Nofile),
            ("nproc", Number::Nproc),
            ("rss", Number::Rss),
            ("rtprio", Number::Rtprio),
            ("rttime", Number::Rttime),
            ("sigpending", Number::Sigpending),
            ("stack", Number::Stack),
        ];
        all.into_iter()
            .find(|(known, _)| *known == name)
            .map(|(name, number)| Self { name, number })
    }
}

/// The network that a command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// A network namespace of its own with nothing but a loopback device, up.
    None,
}

/// Where the standard streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// Input is an empty pipe; output and error are pipes whose reading ends are in [`crate::Running`]. The command gets a
    /// session of its own.
    #[default]
    Piped,
    /// All three are the caller's own, terminal included.
    Inherit,
}

/// What the kernel lets a command do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privileges {
    /// Docker's default capabilities, system call filter, masked and read-only paths.
    #[default]
    Default,
    /// All of the caller's capabilities, no filter, nothing masked (`RUN --security=insecure`).
    Insecure,
}
