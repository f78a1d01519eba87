//! Results that tests show.

use std::time::Duration;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Platform, media_type};
use kiln_engine::{BuildResult, ImageResult, TargetResult};

/// A build of `targets` that all look alike.
pub(crate) fn result(targets: &[&str]) -> BuildResult {
    BuildResult {
        targets: targets.iter().map(|name| target(name)).collect(),
        duration: Duration::from_millis(400),
    }
}

fn target(name: &str) -> TargetResult {
    let manifest = BlobDigest::of(b"manifest");
    TargetResult {
        name: name.to_owned(),
        descriptor: Some(Descriptor::new(media_type::OCI_MANIFEST, manifest, 481)),
        images: vec![ImageResult {
            platform: Platform::new("linux", "amd64", None),
            manifest: Some(manifest),
            config: Some(BlobDigest::of(b"config")),
            steps: 20,
            cached: 18,
            layers: 5,
            layers_reused: 4,
            size_bytes: 123_456_789,
            duration: Duration::from_micros(314_159),
        }],
        names: vec![format!("docker.io/library/ares:{name}")],
    }
}
