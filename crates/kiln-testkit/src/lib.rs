//! Fixtures of kiln's own tests: an in-process registry with faults, trees as text, small
//! images, filters for snapshots of what `kiln` prints.
//!
//! Only tests depend on this crate. What goes wrong in a fixture itself panics and says what it
//! was; there is nothing that a test could do about it.

#![forbid(unsafe_code)]

pub mod filters;
pub mod objects;
pub mod oci;
pub mod registry;
pub mod tree;
