//! What a build is asked for: what flags, bake files and later the API all become.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_core::lock_file::LockFile;
use kiln_core::oci::{Descriptor, Platform, Reference};
use kiln_core::plan::{PlanRequest, RemoteFiles};
use kiln_core::source::SourceFile;
use kiln_registry::{EngineAddress, GitReference, ObjectCache};

use crate::transfer::ImagePlace;

/// One build. Nothing else starts one.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The words of the command for the history, without what is secret.
    pub command: Vec<String>,
    /// The Dockerfile's text.
    pub dockerfile: SourceFile,
    /// Choices that change the plan.
    pub plan: PlanRequest,
    /// The build context's directory; nobody looks at it when `plan.context` has other files.
    pub context: PathBuf,
    /// Text of the ignore file that goes with the Dockerfile (`NAME.dockerignore` beside it), when
    /// there is one; else the context's own `.dockerignore` counts.
    pub ignore_file: Option<Vec<u8>>,
    /// Where named contexts are, by normalised name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Where references of git repositories are known to point, by remote and reference: those of
    /// a context that was fetched are not asked for again.
    pub git_references: BTreeMap<(String, String), GitReference>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents for `RUN --mount=type=ssh`, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// Whether results of earlier builds may be used.
    pub cache: CacheUse,
    /// Shared caches that answer for what the store does not know, in this order.
    pub cache_from: Vec<CachePlace>,
    /// Shared caches that are written when the build is done.
    pub cache_to: Vec<CacheExport>,
    /// Whether images tell which steps made their layers, so that they are caches themselves.
    pub inline_cache: bool,
    /// When registries are asked about tags that the store knows.
    pub pull: Pull,
    /// What references are locked to.
    pub lock: Option<Lock>,
    /// CA bundle of the host that RUN sees from outside the image.
    pub host_ca: Option<PathBuf>,
    /// Names for the images. With several targets, each image gets `NAME:target`.
    pub tags: Vec<Reference>,
    /// Where the result goes; empty means only the store.
    pub outputs: Vec<Output>,
}

/// A lock file, and how it is used.
#[derive(Clone, Debug)]
pub struct Lock {
    /// What it says.
    pub file: LockFile,
    /// How messages name it.
    pub name: String,
    /// What happens to references that it does not have.
    pub unlocked: Unlocked,
    /// The command that writes it for this build.
    pub command: String,
}

/// What happens to references that the lock file does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlocked {
    /// They are resolved, with a warning.
    #[default]
    Resolved,
    /// `--locked`: the build ends.
    Refused,
}

/// Where a named context is.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// A directory of files.
    Directory(PathBuf),
    /// An image in an OCI layout on disk.
    Layout {
        /// The layout's directory.
        path: PathBuf,
        /// Which of its images, by `org.opencontainers.image.ref.name` or digest; `None` is the
        /// only one.
        reference: Option<String>,
    },
    /// An image by reference.
    Image(Reference),
    /// An image that is in the store: the result of another target.
    Stored(Box<Descriptor>),
    /// Nothing (`docker-image://scratch`).
    Empty,
    /// Files that are fetched.
    Remote(RemoteFiles),
}

/// Where a secret's value is.
#[derive(Clone)]
pub enum SecretSource {
    /// In a file, read when it is needed.
    File(PathBuf),
    /// Already known (from a variable).
    Value(Vec<u8>),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(hidden)"),
        }
    }
}

/// What answers as an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshSource {
    /// An agent by its socket.
    Agent(PathBuf),
    /// Files with private keys.
    Keys(Vec<PathBuf>),
}

/// `--no-cache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Results of earlier builds are used.
    #[default]
    Use,
    /// Every step runs; its result is remembered.
    Refresh,
}

/// Where a shared cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In a registry, or the directory of a layout.
    Image(ImagePlace),
    /// In an object store.
    Objects(Box<ObjectCache>),
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(place) => place.fmt(f),
            Self::Objects(cache) => cache.fmt(f),
        }
    }
}

/// `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheExport {
    /// Where to.
    pub place: CachePlace,
    /// Which steps.
    pub mode: CacheMode,
    /// How layers are compressed, and whose media types the manifest has.
    pub options: ImageOptions,
    /// What a failure means.
    pub on_failure: ExportFailure,
}

/// `mode` of `--cache-to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Steps whose layers the images have.
    #[default]
    Min,
    /// All steps.
    Max,
}

/// `ignore-error` of `--cache-to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportFailure {
    /// The build fails.
    #[default]
    Fails,
    /// It is a warning.
    Warns,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// What the store knows is used as it is.
    #[default]
    IfMissing,
    /// Registries are asked where tags point now.
    Always,
}

/// `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `type=oci`: an OCI layout, as a tar or a directory.
    Oci {
        /// Where to.
        dest: Destination,
        /// What the image looks like.
        options: ImageOptions,
    },
    /// `type=docker` with a place: what `docker load` reads, with an OCI layout in it.
    Docker {
        /// Where to.
        dest: Destination,
        /// What the image looks like.
        options: ImageOptions,
    },
    /// `--load`: into the images of another program.
    Load {
        /// Which one.
        into: ImageProgram,
        /// What the image looks like.
        options: ImageOptions,
    },
    /// `type=image` and `type=registry`: an image in the store, in registries, or both.
    Image {
        /// What it looks like in registries; in the store it is not compressed.
        options: ImageOptions,
        /// Where to.
        to: ImageTarget,
    },
    /// `type=local`: the file system, as files in a directory.
    Local {
        /// The directory.
        dest: PathBuf,
        /// Whether each platform has a directory of its own.
        split: PlatformSplit,
    },
    /// `type=tar`: the file system, as one tar.
    Tar {
        /// Where to.
        dest: Destination,
        /// Whether each platform has a directory of its own.
        split: PlatformSplit,
    },
}

/// A program that keeps images of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageProgram {
    /// A Docker engine, through its API.
    Docker(EngineAddress),
    /// `podman load`
    Podman,
    /// `ctr images import`
    Containerd {
        /// Its namespace.
        namespace: String,
        /// Its socket, when it is not the usual one.
        address: Option<String>,
    },
}

/// Where an image goes under its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageTarget {
    /// Into the store.
    Store,
    /// To the names' registries.
    Registry(PushedAs),
    /// Both.
    StoreAndRegistry(PushedAs),
}

/// What a registry knows an image by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushedAs {
    /// By its names.
    #[default]
    Names,
    /// `push-by-digest`: in the repositories of its names, by its digest alone.
    Digest,
}

impl ImageTarget {
    /// Whether the store gets it.
    pub(crate) fn is_stored(self) -> bool {
        !matches!(self, Self::Registry(_))
    }

    /// How registries get it, if they do.
    pub fn pushed(self) -> Option<PushedAs> {
        match self {
            Self::Store => None,
            Self::Registry(pushed) | Self::StoreAndRegistry(pushed) => Some(pushed),
        }
    }
}

impl Output {
    /// Whether all that an image is made of has to be at hand.
    pub(crate) fn needs_bytes(&self) -> bool {
        match self {
            Self::Oci { .. } | Self::Docker { .. } => true,
            // An engine is asked first what it has.
            Self::Load { into, .. } => !matches!(into, ImageProgram::Docker(_)),
            Self::Image { .. } | Self::Local { .. } | Self::Tar { .. } => false,
        }
    }

    /// Where its one file or directory is; `None` if it has none.
    pub fn destination(&self) -> Option<Destination> {
        match self {
            Self::Oci { dest, .. } | Self::Docker { dest, .. } | Self::Tar { dest, .. } => {
                Some(dest.clone())
            }
            Self::Local { dest, .. } => Some(Destination::Directory(dest.clone())),
            Self::Image { .. } | Self::Load { .. } => None,
        }
    }

    /// What its images look like; `None` if it has files alone.
    pub fn image_options(&self) -> Option<&ImageOptions> {
        match self {
            Self::Oci { options, .. }
            | Self::Docker { options, .. }
            | Self::Load { options, .. }
            | Self::Image { options, .. } => Some(options),
            Self::Local { .. } | Self::Tar { .. } => None,
        }
    }

    /// The same, to be changed.
    pub fn image_options_mut(&mut self) -> Option<&mut ImageOptions> {
        match self {
            Self::Oci { options, .. }
            | Self::Docker { options, .. }
            | Self::Load { options, .. }
            | Self::Image { options, .. } => Some(options),
            Self::Local { .. } | Self::Tar { .. } => None,
        }
    }

    /// What layers are packed into for it, if they are.
    pub(crate) fn form(&self) -> Option<ImageOptions> {
        match self {
            Self::Image { to: ImageTarget::Store, options } => Some(options.in_store()),
            output => output.image_options().cloned(),
        }
    }
}

/// `platform-split`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlatformSplit {
    /// When there are several platforms.
    #[default]
    Several,
    /// `true`: also for one.
    Always,
    /// `false`: all platforms into one directory; no two may have the same file.
    Never,
}

/// What an image in a file looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Layer compression.
    pub compression: LayerCompression,
    /// Its level, when it is not the usual one.
    pub level: Option<u8>,
    /// Whether layers of base images have it, too.
    pub force: BaseCompression,
    /// Names in `index.json`, beside those of the request.
    pub names: Vec<Reference>,
    /// Annotations.
    pub annotations: Vec<Annotation>,
    /// Whose media types.
    pub media_types: MediaTypes,
    /// What an epoch does to the times of files.
    pub times: LayerTimes,
}

impl ImageOptions {
    /// Those of images in kiln's own store, whose layers nothing but kiln reads.
    pub fn of_store() -> Self {
        Self::default().in_store()
    }

    /// The same in kiln's own store.
    pub(crate) fn in_store(&self) -> Self {
        Self {
            compression: LayerCompression::Uncompressed,
            level: None,
            force: BaseCompression::Kept,
            ..self.clone()
        }
    }
}

/// `force-compression`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseCompression {
    /// Layers of base images stay the blobs that they are.
    #[default]
    Kept,
    /// `true`: they are compressed like all others.
    Forced,
}

/// `annotation.KEY=VALUE` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Which document has it.
    pub place: AnnotationPlace,
    /// For which platform's document; `None` for all.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where an annotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// In manifests.
    Manifest,
    /// In the descriptors of manifests.
    ManifestDescriptor,
    /// In the index of several platforms.
    Index,
    /// In the descriptor of that index.
    IndexDescriptor,
}

/// `oci-mediatypes`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// OCI's.
    #[default]
    Oci,
    /// Docker's, for older tools.
    Docker,
}

/// `rewrite-timestamp`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerTimes {
    /// With an epoch, no file of a new layer is younger.
    #[default]
    NotAfterEpoch,
    /// `true`: the same, and an annotation of each such layer says so.
    Rewritten,
    /// `false`: files keep their own times.
    Kept,
}

/// Where an output is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file.
    File(PathBuf),
    /// A directory (`type=oci` with `tar=false`).
    Directory(PathBuf),
    /// Standard output.
    Stdout,
}

/// How layers of an output are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// `gzip`, as BuildKit's default.
    #[default]
    Gzip,
    /// `zstd`
    Zstd,
    /// `estargz`: gzip, from which a runtime can take files one by one
    Estargz,
    /// `uncompressed`
    Uncompressed,
}
