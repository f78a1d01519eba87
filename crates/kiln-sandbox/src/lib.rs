//! Runs one command in namespaces over a chain of layers.
//!
//! The crate's effect is the kernel: it mounts, it starts processes, it knows no Dockerfile, no image and no store. The
//! story of a command:
//!
//! ```text
//! Spec ──setup::plan──▶ sources + Vec<SetupOp>      pure, printable
//!   sources ──▶ detached mounts (overlay, binds)     parent
//!   mount points made in the layer                   parent  (mount_points)
//!   SetupOps played in order, then exec              child   (child, sys)
//! Running ──wait──▶ Exit, mount points gone again    parent
//! ```
//!
//! The child shares the parent's memory until exec (`CLONE_VM | CLONE_VFORK`): a start costs the same whatever the size of
//! kiln, and errors come back as values. It works as root and inside a user namespace ([`user_namespace`]), which kiln
//! enters once, before its first thread; the store and the engine need not know.
//!
//! What it does not do: cgroups and limits (the pid namespace is what ends a command), pulling, hashing, or deciding what a
//! mount shows.

#![deny(unsafe_code)]

pub mod capability;
mod child;
pub mod emulation;
mod error;
mod machine;
mod memory;
mod mount_namespace;
mod mount_points;
mod overlay;
pub mod probe;
mod seccomp;
mod setup;
mod spawn;
mod spec;
#[expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; the only unsafe code of the project"
)]
mod sys;
pub mod user_namespace;

pub use emulation::Emulator;
pub use error::Error;
pub use machine::{MACHINES, Machine};
pub use overlay::{MAX_LOWERS, mount_detached};
pub use setup::{Filesystem, Handle, Mode, MountPointKind, Program, SetupOp, setup_ops};
pub use spawn::{Exit, ExitStatus, Killer, Running, spawn};
pub use spec::{
    Access, Mount, MountKind, Network, Privileges, Process, Recursion, Resource, ResourceLimit,
    Rootfs, Spec, Stdio, WritableLayer,
};
pub use sys::{Usage, set_purge_delay, thread_usage};
