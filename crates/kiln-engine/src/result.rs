//! What a build gives back.

use std::time::Duration;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Platform};

/// A finished build.
#[derive(Clone, Debug)]
pub struct BuildResult {
    /// One for each target, in the order asked for.
    pub targets: Vec<TargetResult>,
    /// Wall time of the build.
    pub duration: Duration,
}

/// One target, built for one or more platforms.
#[derive(Clone, Debug)]
pub struct TargetResult {
    /// Name of the stage, or its number.
    pub name: String,
    /// What its tag points to: a manifest, or an index of several platforms. `None` when the
    /// output is only files (`type=local`, `type=tar`).
    pub descriptor: Option<Descriptor>,
    /// The image of each platform.
    pub images: Vec<ImageResult>,
    /// Full names that it was tagged with.
    pub names: Vec<String>,
}

/// The image of one platform, with what it took to build it.
#[derive(Clone, Debug)]
pub struct ImageResult {
    /// The platform.
    pub platform: Platform,
    /// Digest of the manifest; `None` as above.
    pub manifest: Option<BlobDigest>,
    /// Digest of the config, which Docker calls the image ID.
    pub config: Option<BlobDigest>,
    /// Steps that this image stands on, sources apart.
    pub steps: usize,
    /// How many of them the cache answered.
    pub cached: usize,
    /// Layers of the image.
    pub layers: usize,
    /// How many of them were there before this build.
    pub layers_reused: usize,
    /// Bytes of the files in all layers.
    pub size_bytes: u64,
    /// From the start of the build until the image's last step was done.
    pub duration: Duration,
}
