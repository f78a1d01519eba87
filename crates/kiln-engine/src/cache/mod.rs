//! A cache that machines share: results of steps in a registry or in a directory.
//!
//! It is an OCI image, or a part of the image that was built ([`inline`]). The former's config is a
//! [`document::CacheDocument`], its layers are those that the steps made and, for each, its index.
//! Whatever carries images carries it. All that is read was named by a digest in the manifest or in
//! the config, and is verified; a record whose parts do not belong together is no record. As with
//! every shared cache, who may write to it is trusted with what steps make.
//!
//! A layer that the cache's place has lost or damaged is found out when its bytes are needed. That
//! attempt of the build ends, the layer is no result of any step any more, and the next attempt
//! makes it (`build.rs`); all that was done stays done.
//!
//! What it does NOT hold: git checkouts and downloads of ADD, cache mounts, base images.

mod document;
mod export;
mod import;
mod inline;

pub(crate) use export::export;
pub(crate) use import::Imports;
pub(crate) use inline::with_records;
