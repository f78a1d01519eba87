//! OCI documents: descriptors, manifests, indexes, image configs, references, platforms.
//!
//! Own types, because digests must be stable (ordered maps, unknown fields kept) and because
//! Docker's config fields are part of what images mean. What was read is kept as raw bytes;
//! a digest is never taken over a re-serialisation.
//!
//! Source: OCI image-spec 1.1; Docker image spec 1.2/1.3 for the fields OCI does not have.

mod config;
mod json;
mod manifest;
mod platform;
mod reference;
mod referrer;

pub use config::{
    ContainerConfig, EmptyObject, HealthcheckConfig, HistoryEntry, ImageConfig, RootFs,
};
pub use json::{to_indented_json, to_json};
pub use manifest::{Descriptor, Index, Manifest, media_type};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use referrer::Referrer;
