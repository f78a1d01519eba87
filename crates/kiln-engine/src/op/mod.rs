//! What each operation of a plan does.

mod changes;
pub(crate) mod copy;
pub(crate) mod destination;
pub(crate) mod download;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod git;
pub(crate) mod mounts;
pub(crate) mod root;
pub(crate) mod unpack;
