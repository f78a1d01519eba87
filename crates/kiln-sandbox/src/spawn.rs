//! Starts a command in its sandbox, and what is known of it while it runs and when it has ended.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{CWD, FileType, Mode as FileMode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, PidfdFlags, Signal};

use crate::child::{Child, Failure, Outcome};
use crate::emulation::user_namespace;
use crate::error::Error;
use crate::memory::{command_peak, own_bytes};
use crate::mount_namespace;
use crate::mount_points::{Entry, MountPoints};
use crate::overlay::mount_attachable;
use crate::seccomp::{self, Instruction};
use crate::setup::{Plan, SetupOp, Source, inside, plan};
use crate::spec::{Access, Mount, MountKind, Network, Recursion, Spec, Stdio};
use crate::sys::{self, Depth, Usage};
use crate::user_namespace::{IdMaps, current_id_maps};

/// A running command. Dropped without [`Running::wait`], it is killed.
#[derive(Debug)]
pub struct Running {
    /// What the command writes to standard output; `None` with [`Stdio::Inherit`] or once taken.
    pub stdout: Option<OwnedFd>,
    /// What the command writes to standard error.
    pub stderr: Option<OwnedFd>,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    mount_points: Option<MountPoints>,
    own_max_rss_bytes: u64,
}

/// Ends a running command, from any thread.
#[derive(Debug, Clone)]
pub struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Kills the command and everything that it has started: its pid namespace ends with it. No effect when it has ended.
    ///
    /// # Errors
    /// Whatever the kernel says besides that it has ended.
    pub fn kill(&self) -> Result<(), Error> {
        match rustix::process::pidfd_send_signal(&self.0, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::system("kill the sandbox")(errno)),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether the code is 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

/// The end of a command, with what it and all that it waited for have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// What was used.
    pub usage: Usage,
    /// The largest resident set of one of its processes. The kernel counts kiln's own, at the time of the start, into it:
    /// `None` when the command has stayed below that.
    pub max_rss_bytes: Option<u64>,
}

impl Running {
    /// The command's process, in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable (as poll(2) means it) when the command has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// See [`Killer::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self) -> Result<(), Error> {
        self.killer().kill()
    }

    /// Something that can kill the command while this value is waited for elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.pidfd))
    }

    /// Waits until the command and all its processes have ended, then takes the mount points out of the layer.
    ///
    /// # Errors
    /// A failing wait, or [`Error::MountPoint`].
    pub fn wait(mut self) -> Result<Exit, Error> {
        let reaped = sys::reap(self.pid).map_err(Error::system("wait for the sandbox"));
        let mount_points = self.mount_points.take();
        let reaped = reaped?;
        mount_points.map_or(Ok(()), MountPoints::remove)?;
        let status = if libc::WIFSIGNALED(reaped.status) {
            ExitStatus::Signal(libc::WTERMSIG(reaped.status))
        } else {
            ExitStatus::Code(libc::WEXITSTATUS(reaped.status))
        };
        Ok(Exit {
            status,
            usage: reaped.usage,
            max_rss_bytes: command_peak(reaped.max_rss_bytes, self.own_max_rss_bytes),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `wait` has taken the mount points, and with them the duty.
        if let Some(mount_points) = self.mount_points.take() {
            // A destructor has nobody to tell: the layer is thrown away by whoever did not wait.
            let _ = self.kill();
            let _ = sys::reap(self.pid);
            let _ = mount_points.remove();
        }
    }
}

/// Starts `spec`. Returns when the command has been executed, or when it is known why not.
///
/// The command is killed when the **thread** that called this ends (a rule of the kernel's), so that thread has to live as
/// long as the command.
///
/// # Errors
/// [`Error::ExecutableNotFound`] and its neighbours when the program can't be executed, [`Error::Setup`] with the operation
/// that failed, or what kept the parent from opening layers and mounts. Nothing is left behind then.
pub fn spawn(spec: &Spec) -> Result<Running, Error> {
    let maps = current_id_maps()?;
    maps.check(&spec.process)?;
    let plan = plan(spec, maps.mode)?;
    let sources = open_sources(spec, &plan)?;
    let mut mount_points = MountPoints::new(&spec.rootfs.upper);
    let made = make_mount_points(spec, &plan, &sources, &mut mount_points);
    let started = made.and_then(|()| start(spec, &plan, &sources, maps));
    drop(sources);
    match started {
        Ok(started) => Ok(Running {
            stdout: started.stdout,
            stderr: started.stderr,
            pid: started.pid,
            pidfd: Arc::new(started.pidfd),
            mount_points: Some(mount_points),
            own_max_rss_bytes: started.own_max_rss_bytes,
        }),
        Err(error) => {
            // The first error is the one to tell.
            let _ = mount_points.remove();
            Err(error)
        }
    }
}

/// Opens what the child will attach, in the order of the plan.
fn open_sources(spec: &Spec, plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    let mut opened: Vec<OwnedFd> = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        let descriptor = match source {
            Source::Rootfs => {
                let upper_work = (spec.rootfs.upper.as_path(), spec.rootfs.work.as_path());
                mount_attachable(&spec.rootfs.lowers, Some(upper_work))?
            }
            Source::Mount(index) => open_mount(&spec.mounts[*index])?,
            Source::Selected(index) => {
                let tree = opened.last().expect("a selection follows its tree");
                open_selected(tree.as_fd(), &spec.mounts[*index])?
            }
            Source::Host(path, access) => {
                let path = Path::new(path);
                copy_tree(CWD, path, Recursion::Recursive, *access)
                    .map_err(|source| Error::MountSource { path: path.to_owned(), source })?
            }
            Source::UserNamespace => {
                let emulator = spec.emulator.as_ref();
                user_namespace(emulator.expect("the source was listed for it"))?
            }
        };
        opened.push(descriptor);
    }
    Ok(opened)
}

fn open_mount(mount: &Mount) -> Result<OwnedFd, Error> {
    match &mount.kind {
        MountKind::Bind { source, selector, access, recursion } => {
            let opened = if selector.as_os_str().is_empty() {
                copy_tree(CWD, source, *recursion, *access)
            } else {
                open_inside(CWD, source, selector).and_then(|inside| {
                    copy_tree(inside.as_fd(), Path::new(""), *recursion, *access)
                })
            };
            let path = inside(source, selector);
            opened.map_err(|source| Error::MountSource { path, source })
        }
        MountKind::Overlay { lowers, writable, .. } => {
            let upper_work =
                writable.as_ref().map(|layer| (layer.upper.as_path(), layer.work.as_path()));
            let tree = mount_attachable(lowers, upper_work)?;
            let attributes = match writable {
                Some(_) => MountAttrFlags::empty(),
                None => MountAttrFlags::MOUNT_ATTR_RDONLY,
            };
            sys::set_mount_attributes(tree.as_fd(), attributes.bits().into(), Depth::Single)
                .map_err(Error::system("make an overlay private"))?;
            Ok(tree)
        }
        MountKind::Tmpfs { .. } => unreachable!("a tmpfs has no source"),
    }
}

fn open_selected(tree: BorrowedFd<'_>, mount: &Mount) -> Result<OwnedFd, Error> {
    let MountKind::Overlay { selector, .. } = &mount.kind else {
        unreachable!("only overlays are selected from");
    };
    open_in_root(tree, selector)
        .map_err(|source| Error::MountSource { path: selector.clone(), source })
}

/// Opens `selector` below `directory`: no symlink and no `..` leads out of it.
fn open_inside(at: BorrowedFd<'_>, directory: &Path, selector: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(at, directory, flags, FileMode::empty())?;
    open_in_root(root.as_fd(), selector)
}

fn open_in_root(root: BorrowedFd<'_>, selector: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, selector, flags, FileMode::empty(), resolve) {
            // Something was mounted or renamed, anywhere, while a ".." was resolved: the kernel can't tell whether it led
            // out, and asks to try again.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            result => return Ok(result?),
        }
    }
}

/// A detached copy of a mount, private, and read-only when asked for.
fn copy_tree(
    at: BorrowedFd<'_>,
    path: &Path,
    recursion: Recursion,
    access: Access,
) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursion == Recursion::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(at, path, flags)?;
    let attributes = match access {
        Access::ReadWrite => MountAttrFlags::empty(),
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    sys::set_mount_attributes(tree.as_fd(), attributes.bits().into(), Depth::Recursive)?;
    Ok(tree)
}

/// Makes the mount points, in the order in which they will be mounted on, and the working directory.
fn make_mount_points(
    spec: &Spec,
    plan: &Plan,
    sources: &[OwnedFd],
    mount_points: &mut MountPoints,
) -> Result<(), Error> {
    let root = &sources[0];
    // The descriptor of a mount is for paths only; times and attributes need one of the directory.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(root, ".", flags, FileMode::empty())
        .map_err(Error::system("open the root file system"))?;
    let directory = directory.as_fd();
    for path in ["/proc", "/dev", "/sys"] {
        mount_points.make(directory, Path::new(path), Entry::Special)?;
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        // The last source of a mount is what is attached: its selection, if it has one.
        let source = plan.sources.iter().rposition(
            |source| matches!(source, Source::Mount(other) | Source::Selected(other) if *other == index),
        );
        let is_directory = match source {
            None => true,
            Some(source) => {
                let stat = rustix::fs::fstat(&sources[source]).map_err(Error::system("fstat"))?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
        };
        let entry = if is_directory { Entry::Directory } else { Entry::File };
        mount_points.make(directory, &mount.destination, entry)?;
    }
    let owner = Entry::Owned { uid: spec.process.uid, gid: spec.process.gid };
    mount_points.make(directory, &spec.process.cwd, owner)?;
    if spec.rootfs.access == Access::ReadOnly {
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
        sys::set_mount_attributes(root.as_fd(), attributes, Depth::Single)
            .map_err(Error::system("make the root file system read-only"))?;
    }
    Ok(())
}

struct Started {
    pid: i32,
    pidfd: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    own_max_rss_bytes: u64,
}

fn start(spec: &Spec, plan: &Plan, sources: &[OwnedFd], maps: &IdMaps) -> Result<Started, Error> {
    let streams = match spec.stdio {
        Stdio::Piped => Some(Streams::open().map_err(Error::system("open standard streams"))?),
        Stdio::Inherit => None,
    };
    let own_pid = rustix::process::getpid();
    let parent = rustix::process::pidfd_open(own_pid, PidfdFlags::empty())
        .map_err(Error::system("pidfd_open"))?;
    let mount_namespace = mount_namespace::empty()?;
    let outcome = Outcome::new();
    let mut made: Vec<Option<OwnedFd>> = (0..plan.made).map(|_| None).collect();
    let mut namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if spec.network == Network::None {
        namespaces |= libc::CLONE_NEWNET;
    }
    let mut kept: Vec<_> = sources.iter().map(AsRawFd::as_raw_fd).collect();
    kept.extend([parent.as_raw_fd(), mount_namespace.as_raw_fd()]);
    kept.sort_unstable();
    let mut child = Child {
        ops: &plan.ops,
        sources,
        made: &mut made,
        streams: streams.as_ref().map(Streams::ends_of_child),
        filter: filter(),
        kept: &kept,
        mount_namespace,
        parent: parent.as_fd(),
        groups_settable: maps.groups_settable,
        outcome: &outcome,
    };
    let changes_user = (spec.process.uid, spec.process.gid) != (0, 0);
    let cloned = keep_dumpable(changes_user, || sys::vfork(namespaces, &mut || child.play()));
    // Behind the start: other threads may have grown meanwhile.
    let own_max_rss_bytes = own_bytes();
    // These numbers belong to the child's own table of descriptors.
    for descriptor in made.into_iter().flatten() {
        let _ = descriptor.into_raw_fd();
    }
    let (pid, pidfd) = cloned.map_err(Error::Clone)?;
    if let Some(failure) = outcome.failure() {
        let _ = sys::reap(pid);
        return Err(explain(&plan.ops, failure));
    }
    let (stdout, stderr) =
        streams.map_or((None, None), |streams| (Some(streams.stdout.0), Some(streams.stderr.0)));
    Ok(Started { pid, pidfd, stdout, stderr, own_max_rss_bytes })
}

/// The child's standard streams: input, and pipes as (read, write).
struct Streams {
    stdin: OwnedFd,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Streams {
    fn open() -> io::Result<Self> {
        // A command of another user may open them again, as `/dev/stdout`.
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fchmod(&write, FileMode::from_raw_mode(0o666))?;
            Ok((read, write))
        };
        // Nobody writes to it: a pipe at its end (as with BuildKit).
        Ok(Self { stdin: pipe()?.0, stdout: pipe()?, stderr: pipe()? })
    }

    fn ends_of_child(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.as_fd(), self.stdout.1.as_fd(), self.stderr.1.as_fd()]
    }
}

fn filter() -> &'static [Instruction] {
    static FILTER: OnceLock<Vec<Instruction>> = OnceLock::new();
    FILTER.get_or_init(seccomp::default_filter)
}

/// A child that changes its user makes the memory that it shares undumpable, which is right while it is in there (another
/// process of that user must not trace it), but would stay with the parent. So such children come one at a time, and the
/// parent's state is set back after each.
pub(crate) fn keep_dumpable<T>(changes_user: bool, start: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if !changes_user {
        return start();
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = rustix::process::dumpable_behavior();
    let result = start();
    if matches!(before, Ok(DumpableBehavior::Dumpable)) {
        // Failing leaves it undumpable, which only debuggers notice.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
    result
}

/// The error for a failed operation.
fn explain(ops: &[SetupOp], failure: Failure) -> Error {
    let source = io::Error::from_raw_os_error(failure.errno);
    let op = &ops[failure.op];
    let SetupOp::Execute(program) = op else {
        return Error::Setup { op: op.to_string(), source };
    };
    let path = program
        .candidates
        .get(failure.candidate)
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    if failure.interpreter_missing {
        return Error::InterpreterNotFound { path };
    }
    match failure.errno {
        libc::ENOENT | libc::ENOTDIR => Error::ExecutableNotFound {
            program: program
                .args
                .strings()
                .first()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            searched: program.searched.clone(),
        },
        _ => Error::Execute { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_can_be_handed_to_another_thread() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<Running>();
        is_send_and_sync::<Killer>();
    }
}
