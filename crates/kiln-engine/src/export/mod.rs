//! From snapshots to what leaves a build: images in the store, OCI layouts, files.

mod archive;
mod docker;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod oci;
