//! The engine and the store as the commands see them: the seam of this crate.
//!
//! Commands know only this file, so it is the one place that opens the store and translates
//! other crates' errors into [`Failure`]s.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::BlobDigest;
use kiln_core::event::EventSink;
use kiln_core::oci::{Descriptor, ImageConfig, Manifest};
use kiln_core::source::{SourceFile, Span};
use kiln_engine::{BuildRequest, BuildResult};

use crate::commands::run::RunRequest;
use crate::config::Config;
use crate::failure::Failure;

/// A step that failed.
#[derive(Clone, Debug)]
pub(crate) struct StepFailure {
    /// Stable code, such as `run-failed`.
    pub(crate) code: &'static str,
    /// The instruction.
    pub(crate) span: Span,
    /// Its stage.
    pub(crate) stage: String,
    /// Which step of the stage, from 1.
    pub(crate) step: usize,
    /// Steps of the stage.
    pub(crate) steps: usize,
    /// What happened.
    pub(crate) message: String,
    /// The last lines that the command wrote.
    pub(crate) last_output: Vec<String>,
    /// What to do, if that is known.
    pub(crate) help: Option<String>,
}

/// Why a build failed.
#[expect(dead_code, reason = "made by the engine")]
#[derive(Debug)]
pub(crate) enum BuildError {
    /// The Dockerfile is wrong.
    Invalid {
        /// All that is wrong.
        diagnostics: Vec<Diagnostic>,
    },
    /// A step failed.
    StepFailed(Box<StepFailure>),
    /// The machine cannot.
    Environment {
        /// What failed.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The user ended it.
    Canceled,
}

impl BuildError {
    /// The failure of a command that built `source_file`.
    pub(crate) fn into_failure(self, source_file: &SourceFile) -> Failure {
        let source_file = source_file.clone();
        match self {
            Self::Invalid { diagnostics } => Failure::Invalid {
                source_file,
                diagnostics,
            },
            Self::StepFailed(failure) => Failure::Step {
                source_file,
                failure,
            },
            Self::Environment { message, help } => Failure::Environment { message, help },
            Self::Canceled => Failure::Interrupted,
        }
    }
}

/// An image of the store under one of its names.
#[derive(Clone, Debug)]
pub(crate) struct StoredImage {
    /// Full name with its tag; `None` for an image without a name.
    pub(crate) name: Option<String>,
    /// What the name points to: a manifest, or an index of several platforms.
    pub(crate) descriptor: Descriptor,
    /// The manifest for this machine's platform (or the only one).
    pub(crate) manifest: Manifest,
    /// Its config.
    pub(crate) config: ImageConfig,
    /// Bytes of the files in all layers.
    pub(crate) size_bytes: u64,
}

impl StoredImage {
    /// What Docker calls the image ID: the digest of the config.
    pub(crate) fn id(&self) -> BlobDigest {
        self.manifest.config.digest
    }
}

/// What `kiln fsck` found.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreReport {
    /// Blobs that were read and verified.
    pub(crate) blobs: usize,
    /// Layers that were looked at.
    pub(crate) layers: usize,
    /// Records of the build cache.
    pub(crate) records: usize,
    /// Names of images.
    pub(crate) images: usize,
    /// What is wrong, or was before it was repaired; one line each.
    pub(crate) problems: Vec<String>,
}

/// Whether `kiln fsck` may change the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Only look.
    No,
    /// Drop what is not whole.
    Yes,
}

/// The store and the engine on top of it.
#[derive(Debug)]
pub(crate) struct Session {
    root: PathBuf,
}

impl Session {
    #[expect(clippy::unnecessary_wraps, reason = "a store may not open")]
    /// Opens the store at `config`'s root; makes it when it is not there.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            root: config.root(),
        })
    }

    fn absent<T>(&self) -> Result<T, Failure> {
        let root = self.root.display();
        Err(Failure::environment(format!(
            "this kiln was built without its engine; {root} is not touched"
        )))
    }

    /// Builds.
    pub(crate) fn build(
        &self,
        _request: &BuildRequest,
        _events: &EventSink,
        _cancelled: &Arc<AtomicBool>,
    ) -> Result<BuildResult, BuildError> {
        match self.absent() {
            Ok(result) => Ok(result),
            Err(failure) => Err(BuildError::Environment {
                message: failure.to_string(),
                help: None,
            }),
        }
    }

    /// Runs a container of an image until it ends, and hands on the signals that reach kiln;
    /// gives its exit code.
    pub(crate) fn run(&self, _request: &RunRequest) -> Result<ExitCode, Failure> {
        self.absent()
    }

    /// All images, by name.
    pub(crate) fn images(&self) -> Result<Vec<StoredImage>, Failure> {
        self.absent()
    }

    /// The image that a name, a digest or the start of an image id means.
    pub(crate) fn image(&self, _name: &str) -> Result<StoredImage, Failure> {
        self.absent()
    }

    /// Takes a name from the image that has it; gives the full name.
    pub(crate) fn untag(&self, _name: &str) -> Result<String, Failure> {
        self.absent()
    }

    /// Asks a registry's API whether it is there; gives what it said in one line.
    pub(crate) fn ping_registry(&self, _host: &str) -> Result<String, Failure> {
        self.absent()
    }

    /// Verifies the store.
    pub(crate) fn fsck(&self, _repair: Repair) -> Result<StoreReport, Failure> {
        self.absent()
    }
}
