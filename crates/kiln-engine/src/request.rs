//! What a build is asked for: what flags, bake files and later the API all become.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_core::oci::Reference;
use kiln_core::plan::PlanRequest;
use kiln_core::source::SourceFile;

/// One build. Nothing else starts one.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The Dockerfile's text.
    pub dockerfile: SourceFile,
    /// Choices that change the plan.
    pub plan: PlanRequest,
    /// The build context's directory.
    pub context: PathBuf,
    /// Text of the ignore file that goes with the Dockerfile (`NAME.dockerignore` beside it), when
    /// there is one; else the context's own `.dockerignore` counts.
    pub ignore_file: Option<Vec<u8>>,
    /// Where named contexts are, by normalised name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents for `RUN --mount=type=ssh`, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// Whether results of earlier builds may be used.
    pub cache: CacheUse,
    /// When registries are asked about tags that the store knows.
    pub pull: Pull,
    /// CA bundle of the host that RUN sees from outside the image.
    pub host_ca: Option<PathBuf>,
    /// Names for the images. With several targets, each image gets `NAME:target`.
    pub tags: Vec<Reference>,
    /// Where the result goes; empty means only the store.
    pub outputs: Vec<Output>,
    /// Threads for steps that run at the same time.
    pub parallelism: usize,
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
        /// Layer compression.
        compression: LayerCompression,
    },
    /// `type=local`: the file system, as files in a directory.
    Local(PathBuf),
    /// `type=tar`: the file system, as one tar.
    Tar(Destination),
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
    /// `uncompressed`
    Uncompressed,
}
