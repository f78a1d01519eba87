//! From snapshots to what leaves a build: images in the store and in other programs, OCI layouts, files.

mod archive;
pub(crate) mod docker;
pub(crate) mod early;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod load;
pub(crate) mod oci;
mod program;
mod recompress;
mod stargz;
