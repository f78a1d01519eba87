//! Programs of other machines: who runs them, and an emulator for one sandbox without any set-up of the host.
//!
//! [`execution`] says how a machine's programs come to run here:
//!
//! 1. by the processor: kiln's own machine, and others that its kernel knows (386 on amd64);
//! 2. by an emulator that the host has registered with its kernel (`binfmt_misc`), as Docker's set-ups do;
//! 3. by a static QEMU that is only installed. Since Linux 6.7 each user namespace can have a `binfmt_misc` of its own. So one
//!    namespace for each machine is made, once per process, with the same ids as the one that kiln is in; the emulator is
//!    registered there, and a sandbox for that machine enters it just before its command. The host's list stays as it is,
//!    nothing has to be undone, and native commands know nothing of it.
//!
//! Whether 1 or 2 hold is tried, not read: `/proc/sys/fs/binfmt_misc` need not be mounted for what it shows to be in force.
//!
//! What it does not do: register for the host, find emulators elsewhere than along a given `PATH`, or use emulators that
//! need libraries (they would not be found in the sandbox).
//!
//! Follows: `user_namespaces(7)`, `Documentation/admin-guide/binfmt-misc.rst` of the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::Error;
use crate::machine::Machine;
use crate::spawn::keep_dumpable;
use crate::sys;

/// So many that the exit code is nobody's for a failure.
const PROBE_ARGUMENTS: [&str; 6] = ["x"; 6];

/// How programs of a machine come to run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// By this machine itself, or an emulator that it has registered: nothing has to be done.
    Direct,
    /// By an emulator that is registered for their sandboxes.
    Emulated(Emulator),
    /// Not at all.
    Impossible(Impossible),
}

/// Why a machine's programs don't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Impossible {
    /// There is no emulator of these names.
    NoEmulator {
        /// What was looked for along `PATH`.
        programs: Vec<String>,
    },
    /// There are only emulators that need shared libraries.
    NotStatic {
        /// The emulator.
        path: PathBuf,
    },
}

/// An emulator for the programs of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The machine whose programs it runs.
    pub machine: &'static Machine,
    /// The program, static.
    pub path: PathBuf,
}

/// A user namespace in which one emulator is registered.
#[derive(Debug)]
struct Namespace {
    user: OwnedFd,
    /// The kernel forgets the emulator when nobody has this mount.
    _binfmt_misc: OwnedFd,
}

/// How programs for `architecture` (as in image configs) come to run here. Emulators are looked for along `search_path`, a
/// value of `PATH`; a small program is written to `directory` to try it. Tried once per process. An architecture that kiln
/// does not know is [`Execution::Direct`]: starting the command tells.
///
/// # Errors
/// The program can't be written.
pub fn execution(
    architecture: &str,
    search_path: &OsStr,
    directory: &Path,
) -> Result<Execution, Error> {
    static KNOWN: Mutex<BTreeMap<String, Execution>> = Mutex::new(BTreeMap::new());
    let Some(machine) = Machine::named(architecture).filter(|machine| !machine.is_own()) else {
        return Ok(Execution::Direct);
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(execution) = known.get(architecture) {
        return Ok(execution.clone());
    }
    let execution = if runs_directly(machine, directory)? {
        Execution::Direct
    } else {
        find(machine, search_path).map_or_else(Execution::Impossible, Execution::Emulated)
    };
    known.insert(architecture.to_owned(), execution.clone());
    Ok(execution)
}

/// Runs the machine's smallest program.
fn runs_directly(machine: &Machine, directory: &Path) -> Result<bool, Error> {
    let name = format!("probe-{}-{}", machine.architecture, std::process::id());
    let path = directory.join(name);
    write_program(machine, &path)
        .map_err(Error::system("write a program to try another machine's"))?;
    let status = loop {
        let mut command = Command::new(&path);
        command.args(PROBE_ARGUMENTS);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            // A process that was started just now still has the file open for writing.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => break other,
        }
    };
    // A left-over in a directory of the process' own.
    let _ = std::fs::remove_file(&path);
    Ok(status.is_ok_and(|status| status.code() == Some(1 + PROBE_ARGUMENTS.len() as i32)))
}

fn write_program(machine: &Machine, path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o700);
    options.open(path)?.write_all(&machine.probe_program())
}

/// The first static emulator along `search_path`.
fn find(machine: &'static Machine, search_path: &OsStr) -> Result<Emulator, Impossible> {
    let programs = [format!("qemu-{}-static", machine.qemu), format!("qemu-{}", machine.qemu)];
    let mut dynamic = None;
    for program in &programs {
        let Ok(path) = crate::probe::find_tool(program, search_path) else { continue };
        // The kernel is given the name of a file, whatever directory it is asked from.
        let Ok(path) = std::fs::canonicalize(path) else { continue };
        if is_static(&path) {
            return Ok(Emulator { machine, path });
        }
        dynamic = Some(path);
    }
    Err(match dynamic {
        Some(path) => Impossible::NotStatic { path },
        None => Impossible::NoEmulator { programs: programs.into() },
    })
}

/// Whether a program of kiln's own machine needs no loader: no segment of it is `PT_INTERP`.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let mut head = vec![0; 4096];
    let length = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    head.truncate(length);
    let half = |at: usize| Some(u16::from_ne_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let is_interpreted = || {
        let is_64_bit = *head.get(4)? == 2;
        let (first, size, count) = if is_64_bit {
            (word(32)?, half(54)?, half(56)?)
        } else {
            (word(28)?, half(42)?, half(44)?)
        };
        let mut kinds =
            (0..count).map(|index| word(first as usize + usize::from(index) * usize::from(size)));
        Some(kinds.any(|kind| kind.is_none_or(|kind| kind == INTERPRETER)))
    };
    head.starts_with(b"\x7fELF") && is_interpreted() == Some(false)
}

/// The user namespace for an emulator's sandboxes.
pub(crate) fn user_namespace(emulator: &Emulator) -> Result<OwnedFd, Error> {
    namespace(emulator)?
        .user
        .try_clone()
        .map_err(Error::system("duplicate a descriptor of a user namespace"))
}

fn namespace(emulator: &Emulator) -> Result<Arc<Namespace>, Error> {
    static MADE: Mutex<BTreeMap<PathBuf, Arc<Namespace>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(namespace) = made.get(&emulator.path) {
        return Ok(Arc::clone(namespace));
    }
    let line = emulator.machine.registration(emulator.path.as_os_str());
    // Files of /proc about the child are kiln's own only while its memory is dumpable.
    let namespace = keep_dumpable(true, || make(&line))
        .map_err(|(what, source)| Error::Emulator { path: emulator.path.clone(), what, source })?;
    let namespace = Arc::new(namespace);
    made.insert(emulator.path.clone(), Arc::clone(&namespace));
    Ok(namespace)
}

type Attempt<T> = Result<T, (&'static str, io::Error)>;

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> (&'static str, io::Error) {
    move |error| (what, error.into())
}

/// A child in a new user namespace waits until its ids are mapped from outside, and registers. Its memory is kiln's, as with
/// every sandbox, so that a thread has to stand still for it.
fn make(registration: &[u8]) -> Attempt<Namespace> {
    let (mut from_child, to_parent) = io::pipe().map_err(failed("make a pipe"))?;
    let (from_parent, mut to_child) = io::pipe().map_err(failed("make a pipe"))?;
    std::thread::scope(|scope| {
        let child = scope.spawn(move || {
            let mut child =
                Child { registration, from_parent: &from_parent, to_parent: &to_parent };
            let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
            let (pid, _) = sys::vfork(namespaces, &mut || child.play())?;
            sys::reap(pid).map(drop)
            // Both pipes are closed here: a child that has died is no reason to wait.
        });
        let made = guide(&mut from_child, &mut to_child);
        drop((from_child, to_child));
        match child.join().expect("the thread does not panic") {
            Err(error) => Err(("make a user namespace", error)),
            Ok(()) => made,
        }
    })
}

/// The parent's half.
fn guide(from_child: &mut PipeReader, to_child: &mut PipeWriter) -> Attempt<Namespace> {
    let mut number = || {
        let mut bytes = [0; 4];
        from_child.read_exact(&mut bytes).map_err(failed("talk to the process that registers"))?;
        Ok(i32::from_ne_bytes(bytes))
    };
    let proc = PathBuf::from(format!("/proc/{}", number()?));
    let user = File::open(proc.join("ns/user")).map_err(failed("open a user namespace"))?;
    for map in ["uid_map", "gid_map"] {
        let own = std::fs::read_to_string(format!("/proc/self/{map}"));
        own.and_then(|own| std::fs::write(proc.join(map), same_ids(&own)))
            .map_err(failed("map ids into a user namespace"))?;
    }
    let talk = "talk to the process that registers";
    to_child.write_all(b"m").map_err(failed(talk))?;
    let errno = number()?;
    if errno != 0 {
        let error = io::Error::from_raw_os_error(errno);
        return Err(("register it with binfmt_misc in a user namespace", error));
    }
    let descriptor = number()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mount = rustix::fs::open(proc.join(format!("fd/{descriptor}")), flags, Mode::empty())
        .map_err(failed("hold the mount of binfmt_misc"))?;
    to_child.write_all(b"h").map_err(failed(talk))?;
    Ok(Namespace { user: user.into(), _binfmt_misc: mount })
}

/// A map of ids that changes none of those in `map`, which has lines of `inside outside count`.
fn same_ids(map: &str) -> String {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (inside, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

/// The child's half: it runs in kiln's memory, so it only plays what was made before (see [`crate::sys`]).
struct Child<'a> {
    registration: &'a [u8],
    from_parent: &'a PipeReader,
    to_parent: &'a PipeWriter,
}

impl Child<'_> {
    fn play(&mut self) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        if self.say(own).is_err() || self.wait().is_err() {
            return;
        }
        match register(self.registration) {
            Err(errno) => drop(self.say(errno.raw_os_error())),
            Ok(mount) => {
                let told = self.say(0).and_then(|()| self.say(mount.as_raw_fd()));
                let _ = told.and_then(|()| self.wait());
            }
        }
    }

    fn say(&self, number: i32) -> Result<(), Errno> {
        rustix::io::write(self.to_parent.as_fd(), &number.to_ne_bytes()).map(drop)
    }

    fn wait(&self) -> Result<(), Errno> {
        match rustix::io::read(self.from_parent.as_fd(), &mut [0; 1])? {
            0 => Err(Errno::PIPE),
            _ => Ok(()),
        }
    }
}

fn register(line: &[u8]) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::empty();
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let file = register_file(mount.as_fd())?;
    rustix::io::write(&file, line)?;
    Ok(mount)
}

fn register_file(mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(mount, c"register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MACHINES;

    #[test]
    fn ids_stay_what_they_are() {
        assert_eq!(same_ids("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(same_ids("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn a_script_and_a_program_with_a_loader_are_not_static() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(!is_static(&script));
        assert!(!is_static(Path::new("/no/such/file")));
        let program = directory.path().join("program");
        let own = MACHINES.iter().find(|machine| machine.is_own()).unwrap();
        std::fs::write(&program, own.probe_program()).unwrap();
        assert!(is_static(&program));
    }

    #[test]
    fn the_own_machine_runs_its_smallest_program() {
        let directory = tempfile::tempdir().unwrap();
        let own = MACHINES.iter().find(|machine| machine.is_own()).unwrap();
        assert!(runs_directly(own, directory.path()).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_smallest_program_tells_its_number_of_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let mut tried = 0;
        for machine in MACHINES.iter().filter(|machine| !machine.is_own()) {
            let Ok(emulator) = find(machine, OsStr::new("/usr/bin")) else { continue };
            let path = directory.path().join(machine.architecture);
            write_program(machine, &path).unwrap();
            for more in [&PROBE_ARGUMENTS[..], &PROBE_ARGUMENTS[..2]] {
                let status = Command::new(&emulator.path).arg(&path).args(more).status().unwrap();
                let expected = Some(1 + more.len() as i32);
                assert_eq!(status.code(), expected, "{}", machine.architecture);
            }
            tried += 1;
        }
        // Without the package qemu-user-static there is nothing to try.
        assert!(tried == 0 || tried >= 9, "{tried}");
    }
}
