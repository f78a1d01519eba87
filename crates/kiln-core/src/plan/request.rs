//! What a plan is made from besides the Dockerfile: the user's choices, and facts about the world.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{BlobDigest, DiffId};
use crate::oci::{ImageConfig, Platform, Reference};

/// The choices of a user that change the plan.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// Stages to build; empty means the last one.
    pub targets: Vec<String>,
    /// Platforms to build for; never empty.
    pub platforms: Vec<Platform>,
    /// Whether the user has named them.
    pub platform_choice: PlatformChoice,
    /// How the results for them are kept apart.
    pub layout: ResultLayout,
    /// The platform that builds (`BUILDPLATFORM`).
    pub build_platform: Platform,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Named contexts by normalised name (see [`normalize_context_name`]).
    pub named_contexts: BTreeMap<String, ContextKind>,
    /// Default network of RUN (`--network`).
    pub network: Network,
    /// `--allow security.insecure` and the like.
    pub entitlements: BTreeSet<Entitlement>,
    /// `SOURCE_DATE_EPOCH`, seconds.
    pub epoch: Option<i64>,
}

/// Whether the user has named the platforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlatformChoice {
    /// No: an image is for what its base is for.
    #[default]
    Implied,
    /// Yes (`--platform`): an image is for that, whatever its base is for.
    Named,
}

/// How the results for several platforms are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultLayout {
    /// A single platform's image or files, as they are.
    #[default]
    Plain,
    /// An index of images; a directory of files for each platform. Always so for several platforms; for a single one with
    /// `BUILDKIT_MULTI_PLATFORM`.
    ByPlatform,
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextKind {
    /// A directory of files.
    Directory,
    /// An image in an OCI layout; the facts know it by the context's name.
    Layout,
    /// An image by reference (`docker-image://`).
    Image(Reference),
}

/// Which network a RUN has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// The builder's default: the host's, as with rootless BuildKit.
    #[default]
    Default,
    /// The host's network, asked for by name.
    Host,
    /// None but loopback.
    None,
}

/// What a build may only do when the user allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --security=insecure`
    SecurityInsecure,
    /// `RUN --network=host`
    NetworkHost,
}

/// Which image a plan has to know before it can go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageNeed {
    /// Where it comes from.
    pub source: ImageSource,
    /// For which platform, as `os/arch[/variant]`.
    pub platform: String,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageSource {
    /// The local store or a registry.
    Reference(Reference),
    /// A named context that is an OCI layout.
    Layout {
        /// Normalised name of the context.
        context: String,
    },
}

/// What is known of an image.
#[derive(Clone, Debug)]
pub struct ImageFact {
    /// Digest of its manifest.
    pub manifest: BlobDigest,
    /// Its config, parsed.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub diff_ids: Vec<DiffId>,
}

/// All that is known of the world.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Images by need.
    pub images: BTreeMap<ImageNeed, ImageFact>,
}

/// A context's name as it is compared: image names in their familiar form without `:latest`, others
/// as they are.
pub fn normalize_context_name(name: &str) -> String {
    let familiar = match name.parse::<Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => return name.to_owned(),
    };
    familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
}
