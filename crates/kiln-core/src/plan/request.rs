//! What a plan is made from besides the Dockerfile: the user's choices, and facts about the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::op::GitSource;
use crate::digest::{BlobDigest, DiffId};
use crate::oci::{ImageConfig, Platform, Reference};

/// A target that is all stages, those without a name too: no stage can have this name.
pub const ALL_STAGES: &str = "*";

/// The choices of a user that change the plan.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// Stages to build; empty means the last one.
    ///
    /// [`ALL_STAGES`] is for judging a file.
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
    /// What the build context consists of, when it is no directory of the user's.
    pub context: Option<RemoteFiles>,
    /// Named contexts by normalised name (see [`normalize_context_name`]).
    pub named_contexts: BTreeMap<String, ContextKind>,
    /// What the command line says of every RUN.
    pub run: RunOptions,
    /// Stages whose steps run whatever was built before (`--no-cache-filter`), in lower case.
    pub no_cache_stages: BTreeSet<String>,
    /// `--allow security.insecure` and the like.
    pub entitlements: BTreeSet<Entitlement>,
    /// `SOURCE_DATE_EPOCH` in seconds; else the build argument of that name counts, then a
    /// global ARG.
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

/// What the command line says of every RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Default network (`--network`).
    pub network: Network,
    /// Lines added to `/etc/hosts` (`--add-host`).
    pub extra_hosts: Vec<ExtraHost>,
    /// Limits of the kernel's, each once (`--ulimit`).
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes (`--shm-size`).
    pub shm_size_bytes: Option<u64>,
}

/// A name with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name, in lower case.
    pub name: String,
    /// Its address; not part of any key.
    pub address: IpAddr,
}

/// A limit of the kernel's for one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// As setrlimit(2) calls it, in lower case without `RLIMIT_`: one of [`Ulimit::NAMES`].
    pub name: String,
    /// What counts; `None` is no limit.
    pub soft: Option<u64>,
    /// Up to where a process may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

impl Ulimit {
    /// The limits that exist.
    pub const NAMES: [&'static str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
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
    /// `docker-image://scratch`: nothing.
    Empty,
    /// Files from elsewhere.
    Remote(RemoteFiles),
}

/// Files of a context that are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteFiles {
    /// None at all.
    Nothing,
    /// A commit of a git repository.
    Git(GitSource),
    /// A file of the web, under the name [`CONTEXT_FILE`].
    File {
        /// Its address.
        url: String,
        /// What it must be, if that is known.
        checksum: Option<BlobDigest>,
    },
    /// What is in an archive of the web.
    Archive {
        /// Its address.
        url: String,
        /// What it must be, if that is known.
        checksum: Option<BlobDigest>,
    },
}

/// How a context that is one file of the web is called (BuildKit).
pub const CONTEXT_FILE: &str = "context";

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
