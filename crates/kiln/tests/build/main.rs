//! `kiln build` and what comes after it, as a user sees them: the real program, in directories
//! and a store of the test's own, with real namespaces.
//!
//! Base images are one layer of Debian's static busybox. Nothing is asked of the network but
//! registries in this process. What a test needs besides and does not find (a tool, root) is said
//! on standard error and fails where `CI` is set.

#![expect(clippy::unwrap_used, clippy::format_collect, reason = "tests")]

mod archives;
mod bake;
mod bases;
mod bench;
mod cache;
mod cache_command;
mod cache_mounts;
mod causes;
mod commands;
mod container;
mod disk;
mod download;
mod early;
mod explain;
mod failures;
mod fixture;
mod git;
mod history;
mod hostile;
mod index;
mod interrupt;
mod lock;
mod mounts;
mod object_cache;
mod outputs;
mod parallel;
mod platforms;
mod referrers;
mod registry;
mod remote_context;
mod report;
mod rootless;
mod run_options;
mod secrets;
mod shared_cache;
mod transfer;
mod web;
