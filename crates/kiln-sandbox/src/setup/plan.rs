//! From a [`Spec`] to the operations of its setup: what a sandbox consists of.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::mount::MountAttrFlags;

use super::{Filesystem, Handle, Mode, MountPointKind, Program, SetupOp};
use crate::capability::{self, CapabilitySet};
use crate::emulation::Emulator;
use crate::error::Error;
use crate::mount_namespace::SCRATCH;
use crate::spec::{Access, Mount, MountKind, Network, Privileges, Spec, Stdio};
use crate::sys::StringArray;

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
    /// The user namespace of `spec.emulator`.
    UserNamespace,
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
    builder.enter_root();
    builder.devices()?;
    builder.sys();
    for (index, mount) in spec.mounts.iter().enumerate() {
        builder.mount(index, mount)?;
    }
    builder.confine();
    builder.command()?;
    Ok(Plan { sources: builder.sources, made: builder.made, ops: builder.ops })
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
/// What a command without confinement gets besides (BuildKit's list).
const INSECURE_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/kmsg", 1, 11),
    ("/dev/cuse", 10, 203),
    ("/dev/fuse", 10, 229),
    ("/dev/kvm", 10, 232),
    ("/dev/net/tun", 10, 200),
    ("/dev/loop-control", 10, 237),
];
/// And as many loop devices.
const LOOP_DEVICES: u32 = 8;
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
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
const MASKED_DIRECTORIES: [&str; 5] =
    ["/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

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
        if spec.emulator.is_some() {
            sources.push(Source::UserNamespace);
        }
        Self {
            spec,
            mode,
            source_count: sources.len(),
            sources,
            made: 0,
            ops: Vec::new(),
            mounts: Vec::new(),
        }
    }

    fn handle(&self, source: &Source, label: String) -> Handle {
        let index = self.sources.iter().position(|other| other == source);
        Handle { index: index.expect("every source was listed by `new`"), label }
    }

    fn make_handle(&mut self, label: String) -> Handle {
        self.made += 1;
        Handle { index: self.source_count + self.made - 1, label }
    }

    fn process_basics(&mut self) -> Result<(), Error> {
        self.ops.push(SetupOp::ResetSignals);
        self.ops.push(SetupOp::DieWithParent);
        if self.spec.stdio == Stdio::Piped {
            self.ops.push(SetupOp::NewSession);
            self.ops.push(SetupOp::ConnectStreams);
        }
        self.ops.push(SetupOp::CloseDescriptors);
        // Modes of what is made below are exact.
        self.ops.push(SetupOp::Umask(0));
        self.ops.push(SetupOp::SetHostname(c_string(&self.spec.hostname, "the host name")?));
        if self.spec.network == Network::None {
            self.ops.push(SetupOp::LoopbackUp);
        }
        Ok(())
    }

    fn enter_root(&mut self) {
        let proc = self.make_handle("proc".to_owned());
        let filesystem = filesystem("proc", &[], NOSUID | NODEV | NOEXEC);
        self.ops.push(SetupOp::CreateFilesystem { filesystem, into: proc.clone() });
        self.ops.push(SetupOp::EnterMountNamespace);
        for (index, mount) in self.spec.mounts.iter().enumerate() {
            let handle = self.open_mount(index, mount);
            self.mounts.push(handle);
        }
        let rootfs = self.handle(
            &Source::Rootfs,
            format!("root file system of {} layers", self.spec.rootfs.lowers.len()),
        );
        self.ops.push(SetupOp::EnterRoot { rootfs });
        self.ops.push(SetupOp::Attach { handle: proc, at: constant("/proc") });
    }

    fn open_mount(&mut self, index: usize, mount: &Mount) -> Option<Handle> {
        match &mount.kind {
            MountKind::Bind { source, selector, access, .. } => {
                let label = format!("{}{}", inside(source, selector).display(), read_only(*access));
                Some(self.handle(&Source::Mount(index), label))
            }
            MountKind::Overlay { lowers, writable, selector } => {
                let access = if writable.is_some() { Access::ReadWrite } else { Access::ReadOnly };
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
                    scratch: constant(SCRATCH),
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
            return Err(Error::MountPoint { path: path.to_owned(), source });
        };
        self.ops.push(SetupOp::MakeMountPoint { prefixes, kind });
        Ok(at)
    }

    fn devices(&mut self) -> Result<(), Error> {
        let dev = filesystem("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID);
        self.ops.push(SetupOp::Mount { filesystem: dev, at: constant("/dev") });
        for (path, major, minor) in DEVICES {
            match self.mode {
                Mode::Root => {
                    self.ops.push(SetupOp::MakeDevice { path: constant(path), major, minor });
                }
                Mode::UserNamespace => {
                    let source = Source::Host(path, Access::ReadWrite);
                    let handle = self.handle(&source, format!("the host's {path}"));
                    let at = self.make_mount_point(Path::new(path), MountPointKind::File)?;
                    self.ops.push(SetupOp::Attach { handle, at });
                }
            }
        }
        if self.mode == Mode::Root && self.spec.privileges == Privileges::Insecure {
            self.make_mount_point(Path::new("/dev/net"), MountPointKind::Directory)?;
            for (path, major, minor) in INSECURE_DEVICES {
                self.ops.push(SetupOp::MakeDevice { path: constant(path), major, minor });
            }
            for minor in 0..LOOP_DEVICES {
                let path = constant(&format!("/dev/loop{minor}"));
                self.ops.push(SetupOp::MakeBlockDevice { path, major: 7, minor });
            }
        }
        for (path, target) in LINKS {
            self.ops.push(SetupOp::Link { path: constant(path), target: constant(target) });
        }
        let pts: &[(&str, &str)] = match self.mode {
            Mode::Root => {
                &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")]
            }
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
            ("/dev/mqueue", filesystem("mqueue", &[], NOSUID | NODEV | NOEXEC)),
        ] {
            // A mount of the command's own takes its place.
            if self.spec.mounts.iter().any(|mount| mount.destination == Path::new(path)) {
                continue;
            }
            let at = self.make_mount_point(Path::new(path), MountPointKind::Directory)?;
            self.ops.push(SetupOp::Mount { filesystem, at });
        }
        Ok(())
    }

    fn sys(&mut self) {
        let at = constant("/sys");
        let op = match (self.mode, self.spec.privileges) {
            (Mode::Root, privileges) => {
                let mut attributes = NOSUID | NODEV | NOEXEC;
                if privileges == Privileges::Default {
                    attributes |= RDONLY;
                }
                SetupOp::Mount { filesystem: filesystem("sysfs", &[], attributes), at }
            }
            (Mode::UserNamespace, privileges) => {
                let access = match privileges {
                    Privileges::Default => Access::ReadOnly,
                    Privileges::Insecure => Access::ReadWrite,
                };
                let label = format!("the host's /sys{}", read_only(access));
                SetupOp::Attach { handle: self.handle(&Source::Host("/sys", access), label), at }
            }
        };
        self.ops.push(op);
    }

    fn mount(&mut self, index: usize, mount: &Mount) -> Result<(), Error> {
        match &mount.kind {
            MountKind::Tmpfs { size_bytes, mode, access } => {
                let at = self.make_mount_point(&mount.destination, MountPointKind::Directory)?;
                let mut options = vec![("mode", format!("{mode:o}"))];
                options.extend(size_bytes.map(|size| ("size", size.to_string())));
                let options: Vec<_> =
                    options.iter().map(|(key, value)| (*key, value.as_str())).collect();
                let mut attributes = NOSUID | NODEV;
                if *access == Access::ReadOnly {
                    attributes |= RDONLY;
                }
                let filesystem = filesystem("tmpfs", &options, attributes);
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
        self.ops.extend(MASKED_FILES.map(|path| SetupOp::MaskFile(constant(path))));
        self.ops.extend(MASKED_DIRECTORIES.map(|path| SetupOp::MaskDirectory(constant(path))));
        self.ops.extend(READ_ONLY.map(|path| SetupOp::MakeReadOnly(constant(path))));
    }

    fn command(&mut self) -> Result<(), Error> {
        let process = &self.spec.process;
        names(&process.cwd)?;
        let cwd = c_string(&process.cwd, "the working directory")?;
        self.ops.push(SetupOp::ChangeDirectory(cwd));
        self.ops.push(SetupOp::Umask(0o022));
        self.ops.extend(process.limits.iter().map(|limit| SetupOp::Limit(*limit)));
        if let Some(Emulator { machine, path }) = &self.spec.emulator {
            let label = format!(
                "a user namespace where {} runs programs for {}",
                path.display(),
                machine.architecture
            );
            let namespace = self.handle(&Source::UserNamespace, label);
            self.ops.push(SetupOp::EnterUserNamespace { namespace });
        }
        let confined = self.spec.privileges == Privileges::Default;
        if confined {
            self.ops.push(SetupOp::LimitCapabilities(capability::DEFAULT));
            self.ops.push(SetupOp::InstallFilter);
        }
        let groups = process.groups.clone();
        self.ops.push(SetupOp::SetGroups { groups, primary: process.gid });
        if !confined {
            self.ops.push(SetupOp::KeepCapabilities);
        }
        self.ops.push(SetupOp::SetUser { uid: process.uid, gid: process.gid });
        if !confined {
            self.ops.push(SetupOp::RaiseCapabilities);
        }
        if confined {
            let set = if process.uid == 0 { capability::DEFAULT } else { CapabilitySet(0) };
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
    let options = options.iter().map(|(key, value)| (constant(key), constant(value))).collect();
    Filesystem { name: constant(name), options, attributes }
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
    if selector.as_os_str().is_empty() { source.to_owned() } else { source.join(selector) }
}

/// The names along an absolute path, `.` and `..` resolved by name alone.
pub(crate) fn names(path: &Path) -> Result<Vec<&OsStr>, Error> {
    if !path.is_absolute() {
        return Err(Error::NotAbsolute { path: path.to_owned() });
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
    let path = process.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value);
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
    let args: Result<Vec<_>, _> =
        process.args.iter().map(|argument| c_string(argument, "an argument")).collect();
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
    Ok(Program { candidates, args: StringArray::new(args?), env: StringArray::new(env?), searched })
}
