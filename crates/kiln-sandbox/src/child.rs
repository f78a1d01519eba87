//! Plays the operations in the child, between its start and exec.
//!
//! It runs in the parent's memory (see [`crate::sys`]): no allocation, no lock, no panic. Descriptors that it opens are its
//! own, so they are kept apart from the parent's and are forgotten, not closed, by the parent. What fails is reported
//! through [`Outcome`].

use std::borrow::Borrow;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_bind,
    move_mount, open_tree, unmount,
};
use rustix::process::{Rlimit, Signal};
use rustix::thread::{CapabilitySet as ThreadCapabilities, CapabilitySets, Gid, Uid};

use crate::seccomp::Instruction;
use crate::setup::{Filesystem, Handle, MountPointKind, Program, SetupOp};
use crate::sys::{self, Depth};

/// More than the highest capability of any kernel so far.
const CAPABILITIES: u32 = 64;

/// The kernel reads this much of a script to find its interpreter, and follows this many scripts.
const SHEBANG_BYTES: usize = 256;
const SHEBANG_DEPTH: usize = 5;

/// How the child fared, written by it into memory that the parent reads once the child is gone from it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Index of the operation that failed; [`usize::MAX`] while none has.
    failed: AtomicUsize,
    errno: AtomicI32,
    /// Which of the program's candidates the error is about.
    candidate: AtomicUsize,
    /// The candidate exists, but what has to run it does not.
    interpreter_missing: AtomicBool,
}

/// A failed operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) op: usize,
    pub(crate) errno: i32,
    pub(crate) candidate: usize,
    pub(crate) interpreter_missing: bool,
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self {
            failed: AtomicUsize::new(usize::MAX),
            errno: AtomicI32::new(0),
            candidate: AtomicUsize::new(0),
            interpreter_missing: AtomicBool::new(false),
        }
    }

    /// What failed, if anything did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let op = self.failed.load(Ordering::Acquire);
        (op != usize::MAX).then(|| Failure {
            op,
            errno: self.errno.load(Ordering::Relaxed),
            candidate: self.candidate.load(Ordering::Relaxed),
            interpreter_missing: self.interpreter_missing.load(Ordering::Relaxed),
        })
    }
}

/// Everything that the child works with.
pub(crate) struct Child<'a> {
    pub(crate) ops: &'a [SetupOp],
    /// The parent's descriptors, in the order of the plan's sources.
    pub(crate) sources: &'a [OwnedFd],
    /// Places for the child's own descriptors. The parent must forget what it finds here.
    pub(crate) made: &'a mut [Option<OwnedFd>],
    /// Standard input, output and error.
    pub(crate) streams: Option<[BorrowedFd<'a>; 3]>,
    pub(crate) filter: &'a [Instruction],
    /// The descriptors to keep besides the standard streams, ascending.
    pub(crate) kept: &'a [RawFd],
    /// The mount namespace to start from.
    pub(crate) mount_namespace: BorrowedFd<'a>,
    /// A pidfd of the parent.
    pub(crate) parent: BorrowedFd<'a>,
    /// Whether setgroups(2) is allowed in this user namespace.
    pub(crate) groups_settable: bool,
    pub(crate) outcome: &'a Outcome,
}

impl Child<'_> {
    /// Plays all operations; the last one is the command. Returns when one has failed.
    pub(crate) fn play(&mut self) {
        for index in 0..self.ops.len() {
            if let Err(errno) = self.play_op(&self.ops[index]) {
                self.outcome.errno.store(errno.raw_os_error(), Ordering::Relaxed);
                self.outcome.failed.store(index, Ordering::Release);
                return;
            }
        }
    }

    fn play_op(&mut self, op: &SetupOp) -> Result<(), Errno> {
        match op {
            SetupOp::ResetSignals => sys::reset_signal_actions(),
            SetupOp::DieWithParent => self.die_with_parent()?,
            SetupOp::NewSession => drop(rustix::process::setsid()?),
            SetupOp::ConnectStreams => self.connect_streams()?,
            SetupOp::CloseDescriptors => self.close_descriptors()?,
            SetupOp::Umask(mask) => drop(rustix::process::umask(Mode::from_raw_mode(*mask))),
            SetupOp::EnterMountNamespace => {
                sys::join_namespace(self.mount_namespace, libc::CLONE_NEWNS).map_err(errno)?;
                sys::unshare(libc::CLONE_NEWNS).map_err(errno)?;
            }
            SetupOp::SetHostname(name) => sys::set_hostname(name).map_err(errno)?,
            SetupOp::LoopbackUp => sys::loopback_up().map_err(errno)?,
            SetupOp::CreateFilesystem { filesystem, into } => {
                let mount = create(filesystem)?;
                self.keep(into, mount)?;
            }
            SetupOp::Select { tree, subtree, scratch, into } => {
                self.select(tree, subtree, scratch, into)?;
            }
            SetupOp::EnterRoot { rootfs } => enter_root(self.descriptor(rootfs)?)?,
            SetupOp::MakeMountPoint { prefixes, kind } => self.make_mount_point(prefixes, kind)?,
            SetupOp::Attach { handle, at } => attach(self.descriptor(handle)?, at)?,
            SetupOp::Mount { filesystem, at } => attach(create(filesystem)?.as_fd(), at)?,
            SetupOp::MakeDevice { path, major, minor } => {
                let mode = Mode::from_raw_mode(0o666);
                let device: Dev = rustix::fs::makedev(*major, *minor);
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(CWD, path.as_c_str(), kind, mode, device)?;
            }
            SetupOp::MakeBlockDevice { path, major, minor } => {
                let mode = Mode::from_raw_mode(0o666);
                let device: Dev = rustix::fs::makedev(*major, *minor);
                let kind = FileType::BlockDevice;
                rustix::fs::mknodat(CWD, path.as_c_str(), kind, mode, device)?;
            }
            SetupOp::Link { path, target } => {
                rustix::fs::symlinkat(target.as_c_str(), CWD, path.as_c_str())?;
            }
            SetupOp::MaskFile(path) => {
                optional(mount_bind(c"/dev/null", path.as_c_str()))?;
            }
            SetupOp::MaskDirectory(path) => mask_directory(path)?,
            SetupOp::MakeReadOnly(path) => make_read_only(path)?,
            SetupOp::ChangeDirectory(path) => {
                rustix::process::fchdir(resolve(path, OFlags::DIRECTORY)?)?;
            }
            SetupOp::Limit(limit) => {
                let value = Rlimit { current: limit.soft, maximum: limit.hard };
                rustix::process::setrlimit(limit.resource.number, value)?;
            }
            SetupOp::EnterUserNamespace { namespace } => {
                sys::join_namespace(self.descriptor(namespace)?, libc::CLONE_NEWUSER)
                    .map_err(errno)?;
            }
            SetupOp::LimitCapabilities(set) => {
                limit_capabilities(|capability| set.contains(capability))?;
            }
            SetupOp::InstallFilter => sys::install_filter(self.filter).map_err(errno)?,
            SetupOp::SetGroups { groups, primary } => {
                if self.groups_settable || groups.iter().any(|group| group != primary) {
                    sys::set_groups(groups).map_err(errno)?;
                }
            }
            SetupOp::SetUser { uid, gid } => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            }
            SetupOp::KeepCapabilities => rustix::thread::set_keep_capabilities(true)?,
            SetupOp::RaiseCapabilities => raise_capabilities()?,
            SetupOp::SetCapabilities(set) => {
                let set = ThreadCapabilities::from_bits_retain(set.0);
                let inheritable = ThreadCapabilities::empty();
                let sets = CapabilitySets { effective: set, permitted: set, inheritable };
                rustix::thread::set_capabilities(None, sets)?;
            }
            SetupOp::Execute(program) => return Err(self.execute(program)),
        }
        Ok(())
    }

    fn descriptor(&self, handle: &Handle) -> Result<BorrowedFd<'_>, Errno> {
        match self.sources.get(handle.index) {
            Some(source) => Ok(source.as_fd()),
            None => self
                .made
                .get(handle.index - self.sources.len())
                .and_then(|made| made.as_ref().map(AsFd::as_fd))
                .ok_or(Errno::BADF),
        }
    }

    fn keep(&mut self, handle: &Handle, descriptor: OwnedFd) -> Result<(), Errno> {
        let index = handle.index.wrapping_sub(self.sources.len());
        *self.made.get_mut(index).ok_or(Errno::BADF)? = Some(descriptor);
        Ok(())
    }

    /// The death signal alone would miss a parent that has died before it was set.
    fn die_with_parent(&self) -> Result<(), Errno> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut parent = [PollFd::from_borrowed_fd(self.parent, PollFlags::IN)];
        match poll(&mut parent, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Ok(()),
            _ => Err(Errno::SRCH),
        }
    }

    fn connect_streams(&self) -> Result<(), Errno> {
        let Some(streams) = self.streams else {
            return Ok(());
        };
        for (target, source) in streams.iter().enumerate() {
            sys::duplicate_to(source.as_raw_fd(), target as i32).map_err(errno)?;
        }
        Ok(())
    }

    /// Closes what the parent had open for itself: directories of the host among it, to which `/proc/self/fd` leads.
    fn close_descriptors(&self) -> Result<(), Errno> {
        let mut first = 3;
        for kept in self.kept {
            let kept = *kept as u32;
            if kept > first {
                sys::close_range(first, kept - 1).map_err(errno)?;
            }
            first = first.max(kept + 1);
        }
        sys::close_range(first, u32::MAX).map_err(errno)
    }

    /// A detached mount can't be copied in part on all kernels, so it is attached for a moment.
    fn select(
        &mut self,
        tree: &Handle,
        subtree: &Handle,
        scratch: &CStr,
        into: &Handle,
    ) -> Result<(), Errno> {
        attach(self.descriptor(tree)?, scratch)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let part = open_tree(self.descriptor(subtree)?, c"", flags)?;
        unmount(scratch, UnmountFlags::DETACH)?;
        self.keep(into, part)
    }

    /// Fails silently: attaching to what is not there tells the reason.
    fn make_mount_point(
        &self,
        prefixes: &[std::ffi::CString],
        kind: &MountPointKind,
    ) -> Result<(), Errno> {
        let directory = match kind {
            MountPointKind::Directory => true,
            MountPointKind::File => false,
            MountPointKind::Like(handle) => {
                let stat = rustix::fs::fstat(self.descriptor(handle)?)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
        };
        for (index, prefix) in prefixes.iter().enumerate() {
            let parent = index.checked_sub(1).map_or(c"/", |above| prefixes[above].as_c_str());
            let Ok(parent) = resolve(parent, OFlags::DIRECTORY) else {
                break;
            };
            let name = last_name(prefix);
            if directory || index + 1 < prefixes.len() {
                let _ = rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755));
            } else {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let _ = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644));
            }
        }
        Ok(())
    }

    /// Returns only when no candidate could be executed.
    fn execute(&self, program: &Program) -> Errno {
        sys::unblock_signals();
        let mut result = Errno::NOENT;
        for (index, candidate) in program.candidates.iter().enumerate() {
            let error = match refuse_magic_links(candidate, 0) {
                Err(refused) => refused,
                Ok(()) => errno(sys::execute(candidate, &program.args, &program.env)),
            };
            match error {
                Errno::NOENT => {
                    if rustix::fs::statat(CWD, candidate.as_c_str(), AtFlags::empty()).is_ok() {
                        self.outcome.candidate.store(index, Ordering::Relaxed);
                        self.outcome.interpreter_missing.store(true, Ordering::Relaxed);
                        return error;
                    }
                }
                Errno::NOTDIR => {}
                // As a shell does: remembered, while a later directory may have one that can be executed.
                Errno::ACCESS => {
                    self.outcome.candidate.store(index, Ordering::Relaxed);
                    result = error;
                }
                _ => {
                    self.outcome.candidate.store(index, Ordering::Relaxed);
                    return error;
                }
            }
        }
        result
    }
}

/// The number in an error of a system call. Every error of [`sys`] has one.
fn errno(error: impl Borrow<io::Error>) -> Errno {
    Errno::from_io_error(error.borrow()).unwrap_or(Errno::IO)
}

/// A path of the kernel's that this kernel does not have.
fn optional(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn create(filesystem: &Filesystem) -> Result<OwnedFd, Errno> {
    let context = fsopen(filesystem.name.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in &filesystem.options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), key.as_c_str())?;
        } else {
            fsconfig_set_string(context.as_fd(), key.as_c_str(), value.as_c_str())?;
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, filesystem.attributes)
}

/// Opens a path (`O_PATH`) whose components may be links of the file system, but none of the kernel's own as in
/// `/proc/self/fd` and `/proc/self/exe`: until exec, those lead to what the parent has open.
fn resolve(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// What follows the last slash.
fn last_name(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    CStr::from_bytes_with_nul(&bytes[start..]).unwrap_or(path)
}

/// Refuses a program that is a link of the kernel's own, or whose `#!` line names one. Until exec, `/proc/self/exe` is
/// kiln's own binary: executed in there, it could be overwritten by a command that is root.
///
/// What can't be opened or read is left to the kernel: only root could write to kiln, and root can read everything.
fn refuse_magic_links(program: &CStr, depth: usize) -> Result<(), Errno> {
    match resolve(program, OFlags::empty()) {
        Err(Errno::LOOP) => return Err(Errno::LOOP),
        Err(_) => return Ok(()),
        Ok(_) => {}
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat2(CWD, program, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let Ok(opened) = opened else {
        return Ok(());
    };
    // One byte more than the kernel reads, which stays zero.
    let mut line = [0_u8; SHEBANG_BYTES + 1];
    let length = rustix::io::read(&opened, &mut line[..SHEBANG_BYTES]).unwrap_or(0);
    drop(opened);
    if depth > SHEBANG_DEPTH || !line[..length].starts_with(b"#!") {
        return Ok(());
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = 2 + line[2..length].iter().take_while(|byte| is_blank(byte)).count();
    let is_end = |byte: &u8| is_blank(byte) || matches!(byte, b'\n' | 0);
    let end = start + line[start..length].iter().take_while(|byte| !is_end(byte)).count();
    line[end] = 0;
    match CStr::from_bytes_until_nul(&line[start..]) {
        Ok(interpreter) => refuse_magic_links(interpreter, depth + 1),
        Err(_) => Ok(()),
    }
}

fn attach(mount: BorrowedFd<'_>, at: &CStr) -> Result<(), Errno> {
    let place = resolve(at, OFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place.as_fd(), c"", flags)
}

/// Stacks `rootfs` on the empty root of the mount namespace and makes it `/`. There is nothing else in that namespace, so
/// this is as good as unmounting the old root; the kernel does not count it as a chroot either.
fn enter_root(rootfs: BorrowedFd<'_>) -> Result<(), Errno> {
    attach(rootfs, c"/")?;
    rustix::process::fchdir(rootfs)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

fn mask_directory(path: &CStr) -> Result<(), Errno> {
    if matches!(rustix::fs::statat(CWD, path, AtFlags::empty()), Err(Errno::NOENT)) {
        return Ok(());
    }
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    attach(mount.as_fd(), path)
}

fn make_read_only(path: &CStr) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = match open_tree(CWD, path, flags) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let attributes = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    sys::set_mount_attributes(mount.as_fd(), attributes, Depth::Recursive).map_err(errno)?;
    attach(mount.as_fd(), path)
}

fn raise_capabilities() -> Result<(), Errno> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    sets.inheritable = sets.permitted;
    rustix::thread::set_capabilities(None, sets)?;
    for capability in sets.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

fn limit_capabilities(kept: impl Fn(u32) -> bool) -> Result<(), Errno> {
    for capability in (0..CAPABILITIES).filter(|capability| !kept(*capability)) {
        if !sys::drop_from_bounding_set(capability).map_err(errno)? {
            break;
        }
    }
    rustix::thread::clear_ambient_capability_set()
}
