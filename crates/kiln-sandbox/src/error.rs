//! What can go wrong between a [`crate::Spec`] and a running command.

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is in none of the directories of `PATH`, or not at the path that was given.
    #[error(
        "executable `{program}` not found in the root file system{}",
        along(searched.as_ref())
    )]
    ExecutableNotFound {
        /// As it stands in the arguments.
        program: String,
        /// The `PATH` that was searched; none when the program was given with a slash.
        searched: Option<String>,
    },
    /// The program exists, but what would have to run it does not: the interpreter of its `#!` line, or the dynamic
    /// loader of a binary built for another C library.
    #[error("`{path}` exists, but its interpreter or dynamic loader does not")]
    InterpreterNotFound {
        /// The program's path.
        path: String,
    },
    /// The kernel refused to execute the program: not executable, or of another format or machine.
    #[error("can't execute `{path}`: {source}")]
    Execute {
        /// The program's path.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// One setup step failed in the child.
    #[error("sandbox: can't {op}: {source}")]
    Setup {
        /// The [`crate::SetupOp`], printed.
        op: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An overlay can't be mounted.
    #[error("can't mount overlay of {layers} layers on `{}`: {source}{}", top.display(), details(messages))]
    Overlay {
        /// The upper directory, or else the top-most layer.
        top: PathBuf,
        /// How many lower layers it has.
        layers: usize,
        /// What the kernel wrote about it.
        messages: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An overlay has more layers than the kernel joins.
    #[error("an overlay of {layers} layers: the kernel's limit is {}", crate::overlay::MAX_LOWERS)]
    TooManyLayers {
        /// How many were asked for.
        layers: usize,
    },
    /// An overlay without any layer.
    #[error("an overlay needs at least one layer")]
    NoLayers,
    /// What should be mounted does not exist, or can't be opened.
    #[error("can't mount `{}`: {source}", path.display())]
    MountSource {
        /// The source, with its selector.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A mount point can't be made in the root file system, or removed from the layer.
    #[error("mount point `{}`: {source}", path.display())]
    MountPoint {
        /// Path in the root file system.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The working directory can't be made.
    #[error("working directory `{}`: {source}", path.display())]
    WorkingDirectory {
        /// Path in the root file system.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A path that has to be absolute is not.
    #[error("`{}` is not an absolute path", path.display())]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// An argument, a variable or a path has a NUL byte.
    #[error("{what} contains a NUL byte")]
    NulByte {
        /// What has it.
        what: &'static str,
    },
    /// There is no command.
    #[error("no command to run")]
    NoArguments,
    /// A user or group has no counterpart outside of the user namespace.
    #[error(
        "{kind} {id} is not mapped in this user namespace; add subordinate ids for your user to /etc/subuid and /etc/subgid"
    )]
    IdNotMapped {
        /// "user" or "group".
        kind: &'static str,
        /// The number inside.
        id: u32,
    },
    /// An emulator for programs of another machine can't be set up.
    #[error("emulator `{}`: can't {what}: {source}", path.display())]
    Emulator {
        /// The emulator.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The process or its namespaces could not be created.
    #[error("can't create namespaces: {0}")]
    Clone(#[source] io::Error),
    /// Another system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The user namespace has to be entered before the first thread is started.
    #[error(
        "a user namespace can only be entered by a process with one thread; this one has {threads}"
    )]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The kernel does not let this user create user namespaces.
    #[error("can't create a user namespace: {source}{}", details(hint))]
    UserNamespace {
        /// The setting that is known to forbid it, when one does.
        hint: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: `what` was tried.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

fn along(searched: Option<&String>) -> String {
    searched.map(|path| format!(" along PATH={path}")).unwrap_or_default()
}

fn details(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}
