//! System calls that have no safe wrapper elsewhere, and the start of a child that shares its parent's memory.
//!
//! This is the only module of the project with `unsafe` code. Each function is a thin typed wrapper; what it needs to be
//! sound is either in its types or in its SAFETY comment.
//!
//! The child of [`vfork`] runs in the parent's memory while the parent's thread is suspended and its other threads go on.
//! So between start and exec it must not allocate, lock, or panic: it only plays data that was built before. Nothing here
//! depends on the size of the parent, which is the point of it.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::seccomp::Instruction;

/// Bytes of stack for the child; it needs a fraction of it, in debug builds too.
const STACK_BYTES: usize = 256 * 1024;
/// Lowest page of the stack, never mapped in, so that an overflow is a clean crash.
const GUARD_BYTES: usize = 64 * 1024;
/// The kernel's signal set is 64 bits.
const SIGNAL_SET_BYTES: usize = 8;
const SIGNALS: c_int = 64;

/// Turns a raw result into one with the thread's error number.
fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`.
const PURGE_DELAY: c_int = 15;

/// How long mimalloc keeps memory that nobody uses, where it is the allocator: for ever if `None`.
pub fn set_purge_delay(milliseconds: Option<u16>) {
    let delay = milliseconds.map_or(-1, c_long::from);
    // SAFETY: the allocator reads and writes its settings as atomic integers, at any time; the number is that of one.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, delay) }
}

/// What was set; a second at first.
#[cfg(test)]
fn purge_delay() -> c_long {
    // SAFETY: as above.
    unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
}

/// A private mapping used as the child's stack, unmapped when dropped.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), STACK_BYTES, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the range is the start of the mapping made above, which nothing uses yet.
        check(c_long::from(unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) }))?;
        Ok(stack)
    }

    /// The end of the mapping: stacks grow down; page alignment satisfies every ABI's.
    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and the child that ran on it has left it (exec or exit) by now:
        // `vfork` does not return before.
        unsafe { libc::munmap(self.base, STACK_BYTES) };
    }
}

/// The calling thread's signal mask with all signals blocked until dropped.
struct BlockedSignals {
    previous: u64,
}

fn change_signal_mask(how: c_int, set: u64) -> u64 {
    let mut previous = 0_u64;
    // SAFETY: both sets are 8 bytes, as the last argument says. The raw call is used because the C library's hides its
    // internal signals, whose handlers must not run in a child that shares memory.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            &raw mut previous,
            SIGNAL_SET_BYTES,
        )
    };
    previous
}

impl BlockedSignals {
    fn all() -> Self {
        Self { previous: change_signal_mask(libc::SIG_BLOCK, u64::MAX) }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        change_signal_mask(libc::SIG_SETMASK, self.previous);
    }
}

type Child<'a> = &'a mut dyn FnMut();

extern "C" fn enter_child(argument: *mut c_void) -> c_int {
    // SAFETY: `vfork` passes a pointer to a `Child` on its own frame, which lives on while its thread is suspended.
    let child = unsafe { &mut *argument.cast::<Child<'_>>() };
    child();
    exit(127)
}

/// Starts `child` in a new process with new namespaces (`CLONE_NEW*` in `namespaces`), in this process' memory, on a stack
/// of its own, with all signals blocked. Returns its pid and a pidfd as soon as it has called exec or has exited.
///
/// `child` must only use what was built before: no allocation, no lock, no panic (a panic aborts both). When it returns
/// instead of calling exec, its process exits with code 127.
pub(crate) fn vfork(namespaces: c_int, child: Child<'_>) -> io::Result<(i32, OwnedFd)> {
    let stack = Stack::map()?;
    let mut child: Child<'_> = child;
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | namespaces;
    let signals = BlockedSignals::all();
    // SAFETY: the stack is mapped, unshared and large; `child` and `pidfd` live in this frame, and CLONE_VFORK suspends
    // this thread until the child has left this memory. The child never returns through `enter_child`.
    let pid = unsafe {
        libc::clone(enter_child, stack.top(), flags, (&raw mut child).cast(), &raw mut pidfd)
    };
    let result = check(c_long::from(pid));
    drop(signals);
    result?;
    // SAFETY: CLONE_PIDFD stored a new descriptor that nothing else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Ends the calling process at once: no destructors, no exit handlers.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Sets every signal to its default action.
pub(crate) fn reset_signal_actions() {
    // `struct sigaction` of the kernel is at most 32 bytes; all zeroes is SIG_DFL without flags or mask.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: the action is a zeroed kernel structure that is large enough; the kernel refuses SIGKILL and SIGSTOP.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<c_void>(),
                SIGNAL_SET_BYTES,
            )
        };
    }
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() {
    change_signal_mask(libc::SIG_SETMASK, 0);
}

/// Strings with the null-terminated pointer array that exec takes.
pub(crate) struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers point into heap buffers of `strings`, which this value owns and never changes.
unsafe impl Send for StringArray {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for StringArray {}

impl StringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers =
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }

    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }
}

impl std::fmt::Debug for StringArray {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(formatter)
    }
}

/// Replaces the process' program; returns only when that failed.
pub(crate) fn execute(path: &CStr, args: &StringArray, env: &StringArray) -> io::Error {
    // SAFETY: the path and both arrays are null-terminated and live until the kernel has copied them.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Makes `target` a copy of `source` that survives exec.
pub(crate) fn duplicate_to(source: RawFd, target: RawFd) -> io::Result<()> {
    if source == target {
        // SAFETY: fcntl with F_SETFD takes an int and no pointer.
        return check(c_long::from(unsafe { libc::fcntl(source, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: dup2 takes no pointer. The child's own table is changed; the caller picks targets that it owns.
    check(c_long::from(unsafe { libc::dup2(source, target) })).map(drop)
}

/// Closes the descriptors from `first` to `last` of the calling process' table, as far as they are open.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range takes three integers. It is called in the child, whose table is a copy: the parent's owned
    // descriptors stay open, and the child has no use for its copies of them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(result).map(drop)
}

/// Sets the host name of the UTS namespace.
pub(crate) fn set_hostname(name: &CStr) -> io::Result<()> {
    // SAFETY: the pointer is valid for the length that goes with it.
    let result = unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) };
    check(c_long::from(result)).map(drop)
}

/// How far [`set_mount_attributes`] reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// This mount.
    Single,
    /// This mount and all below it.
    Recursive,
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Adds `attributes` (`MOUNT_ATTR_*`) to a mount and makes it private (no propagation in either direction).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: u64,
    depth: Depth,
) -> io::Result<()> {
    let change = MountAttributes {
        set: attributes,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };
    let recursive = if depth == Depth::Recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty string, the structure lives across the call and its size goes with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const change,
            size_of::<MountAttributes>(),
        )
    };
    check(result).map(drop)
}

/// Installs a system call filter for the calling thread, without `no_new_privs`: needs `CAP_SYS_ADMIN`.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `struct sock_filter`; the kernel copies `len` of them and writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            0 as c_ulong,
            &raw const filter,
        )
    };
    check(result).map(drop)
}

/// Removes a capability from the calling thread's bounding set; `Ok(false)` when the kernel does not know it.
pub(crate) fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    // SAFETY: this prctl takes integers.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0, 0, 0) };
    match check(c_long::from(result)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets the supplementary groups of the calling thread.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer is valid for the number of elements that goes with it. The raw call is used because the C
    // library's would ask all threads of the process to do the same.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check(result).map(drop)
}

/// Moves the calling thread into new namespaces (`CLONE_NEW*`); a user namespace only when it is the only one.
pub(crate) fn unshare(namespaces: c_int) -> io::Result<()> {
    // SAFETY: unshare takes an integer. It does not unshare descriptors here, which is what could break I/O safety.
    check(c_long::from(unsafe { libc::unshare(namespaces) })).map(drop)
}

/// Moves the calling thread, which shares its root and working directory with no other, into a namespace of this kind
/// (`CLONE_NEW*`); a user namespace only when its process has no other thread.
pub(crate) fn join_namespace(namespace: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    // SAFETY: setns takes two integers, of which the descriptor is open.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), kind) };
    check(c_long::from(result)).map(drop)
}

/// Brings the loopback device of the network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket takes integers.
    let socket = check(c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: the descriptor was made above and is owned by nothing else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as RawFd) };
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives across the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(c_long::from(result)).map(drop)
}

/// What work used, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// Bytes that were fetched from block devices.
    pub read_bytes: u64,
    /// Bytes of pages that were made dirty, to be written to block devices.
    pub written_bytes: u64,
}

impl Usage {
    fn of(usage: &libc::rusage) -> Self {
        let duration = |time: libc::timeval| {
            Duration::new(time.tv_sec as u64, 0) + Duration::from_micros(time.tv_usec as u64)
        };
        // Blocks of 512 bytes, whatever the device's are. The same count as `read_bytes` and `write_bytes` of /proc/PID/io,
        // without opening that.
        let bytes = |blocks: c_long| blocks as u64 * 512;
        Self {
            user_time: duration(usage.ru_utime),
            system_time: duration(usage.ru_stime),
            read_bytes: bytes(usage.ru_inblock),
            written_bytes: bytes(usage.ru_oublock),
        }
    }

    /// What was used after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_time: self.user_time.saturating_sub(earlier.user_time),
            system_time: self.system_time.saturating_sub(earlier.system_time),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

fn resource_usage(who: c_int) -> libc::rusage {
    // SAFETY: `rusage` is plain data, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local that lives across the call.
    unsafe { libc::getrusage(who, &raw mut usage) };
    usage
}

/// What the calling thread has used so far.
pub fn thread_usage() -> Usage {
    Usage::of(&resource_usage(libc::RUSAGE_THREAD))
}

/// How a child ended, with what it and all that it waited for used.
pub(crate) struct Reaped {
    /// As wait(2) encodes it.
    pub(crate) status: c_int,
    pub(crate) usage: Usage,
    pub(crate) max_rss_bytes: u64,
}

/// Waits for the child `pid` and reaps it.
pub(crate) fn reap(pid: i32) -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: `rusage` is plain data, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to locals that live across the call.
        let result = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        match check(c_long::from(result)) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let max_rss_bytes = usage.ru_maxrss as u64 * 1024;
    Ok(Reaped { status, usage: Usage::of(&usage), max_rss_bytes })
}

/// The largest resident set that this process ever had.
pub(crate) fn own_max_rss_bytes() -> u64 {
    resource_usage(libc::RUSAGE_SELF).ru_maxrss as u64 * 1024
}

/// Which side of a [`fork`] this is.
pub(crate) enum Fork {
    Parent { child: i32 },
    Child,
}

/// Duplicates the process. The caller has made sure that it has one thread: then the child may do what it likes.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: with a single thread no lock can be held by another, so the child's memory is consistent.
    match check(c_long::from(unsafe { libc::fork() }))? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child: child as i32 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_the_one_that_is_meant() {
        // No other setting of mimalloc 3 is a thousand at first.
        assert_eq!(purge_delay(), 1000);
        set_purge_delay(None);
        assert_eq!(purge_delay(), -1);
        set_purge_delay(Some(10));
        assert_eq!(purge_delay(), 10);
    }
}
