//! From snapshots to what leaves a build: images in the store, OCI layouts, files.

pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod oci;
