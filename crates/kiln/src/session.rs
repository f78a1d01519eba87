//! The engine and the store as the commands see them: the seam of this crate.
//!
//! Commands know only this file, so it is the one place that opens the store and translates
//! other crates' errors into [`Failure`]s.

mod bench;
pub(crate) mod transfer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kiln_core::cache_key::KeyParts;
use kiln_core::diagnostic::did_you_mean;
use kiln_core::digest::{BlobDigest, CacheKey};
use kiln_core::event::EventSink;
use kiln_core::lint::CacheMountContent;
use kiln_core::lock_file::{LockFile, Upgrade};
use kiln_core::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use kiln_core::report::{BuildId, BuildReport, Contents};
use kiln_core::source::{SourceFile, Span};
use kiln_engine::{
    BakeTarget, BuildError, BuildRequest, BuildResult, ContainerError, ContainerRequest,
    ContextAddress, Engine, FetchedContext, StandardInput, Volume, Watch, run_container,
};
use kiln_registry::{
    Client, Config as RegistryConfig, GitProgram, ObjectSettings, Proxies, RouteFiles,
};
use kiln_sandbox::{ExitStatus, Running};
pub(crate) use kiln_store::fsck::Repair;
use kiln_store::gc::{Prune, Pruned};
use kiln_store::history::StepLog;
use kiln_store::inventory::Inventory;
use kiln_store::{MountContent, Store, fsck};
use rustix::process::{Signal, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::commands::run::{Access, RunRequest, Stdin};
use crate::config::Config;
use crate::failure::Failure;
use crate::settings;
pub(crate) use transfer::{
    ArchiveForm, FoundImage, ImagePlace, IndexBase, IndexEffect, IndexRequest, LoginCheck,
    LoginPlace,
};

/// A step that failed, as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct StepFailure {
    /// Stable code, such as `run-failed`.
    pub(crate) code: &'static str,
    /// The instruction.
    pub(crate) span: Span,
    /// Its stage.
    pub(crate) stage: String,
    /// Which step of the stage, from 1; 0 if it is not counted.
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

impl StepFailure {
    /// Stage and position come from the step's name: `[stage 2/5] RUN …`.
    fn new(failure: kiln_engine::StepFailure) -> Self {
        let place = failure.name.strip_prefix('[').and_then(|name| name.split_once(']'));
        let mut words: Vec<&str> =
            place.map_or("", |(place, _)| place).split_whitespace().collect();
        let (step, steps) = words
            .pop()
            .and_then(|count| count.split_once('/'))
            .and_then(|(step, steps)| Some((step.parse().ok()?, steps.parse().ok()?)))
            .unwrap_or((0, 0));
        Self {
            code: failure.code,
            span: failure.span,
            // What stands alone is not named; a platform may stand there.
            stage: words
                .last()
                .filter(|word| !word.contains('/'))
                .copied()
                .unwrap_or_default()
                .to_owned(),
            step,
            steps,
            message: failure.message,
            last_output: failure.last_output,
            help: failure.help,
        }
    }
}

/// The failure of a command that built `source_file`.
pub(crate) fn build_failure(error: BuildError, source_file: &SourceFile) -> Failure {
    let source_file = source_file.clone();
    match error {
        BuildError::Invalid { diagnostics } => Failure::Invalid { source_file, diagnostics },
        BuildError::Step(failure) => {
            let failure = Box::new(StepFailure::new(*failure));
            Failure::Step { source_file, failure }
        }
        BuildError::Image { message, help } | BuildError::LostLayer { message, help, .. } => {
            Failure::Input { code: "image-unavailable", message, help }
        }
        BuildError::Lock { message, help } => Failure::Input { code: "not-locked", message, help },
        BuildError::Network { message, help } => Failure::Environment { message, help },
        error @ (BuildError::File { .. } | BuildError::Layer(_)) if is_disk_full(&error) => {
            Failure::environment(error.to_string()).with_help("free some space")
        }
        BuildError::Store(error) => store_failure(&error),
        BuildError::Layer(error) => Failure::environment(error.to_string()),
        BuildError::File { action, path, source } => Failure::file(action, path, source),
        BuildError::Usage(message) => Failure::usage(message),
        BuildError::Canceled => Failure::Interrupted,
    }
}

/// The failure of a command that fetched a context: there is no Dockerfile yet to show it in.
fn context_failure(error: BuildError) -> Failure {
    match error {
        BuildError::Step(failure) => {
            let kiln_engine::StepFailure { code, message, help, .. } = *failure;
            Failure::Input { code, message, help }
        }
        error => build_failure(error, &SourceFile::new("Dockerfile", String::new())),
    }
}

/// Whether an error comes from a disk, or a share of one, that has no more room.
fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
    })
}

fn store_failure(error: &kiln_store::Error) -> Failure {
    let failure = Failure::environment(error.to_string());
    if error.is_disk_full() {
        failure.with_help("free some space, or put the store elsewhere with `KILN_ROOT`")
    } else {
        failure
    }
}

/// An image of the store under one of its names.
#[derive(Clone, Debug)]
pub(crate) struct StoredImage {
    /// Full name with its tag; `None` for an image without a name.
    pub(crate) name: Option<String>,
    /// What the name points to: a manifest, or an index of several platforms.
    pub(crate) descriptor: Descriptor,
    /// Digest of the manifest.
    pub(crate) manifest_digest: BlobDigest,
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

/// The store and the engine on top of it.
#[derive(Debug)]
pub(crate) struct Session {
    store: Arc<Store>,
    engine: Engine,
}

impl Session {
    /// Opens the store at `config`'s root; makes it when it is not there.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        let store = Arc::new(Store::open(&config.root()).map_err(|error| store_failure(&error))?);
        let registry = Client::new(registry_config(config));
        let engine = Engine::new(Arc::clone(&store), registry, config.path.clone());
        Ok(Self { store, engine })
    }

    /// Builds.
    pub(crate) fn build(
        &self,
        request: &BuildRequest,
        events: &EventSink,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<BuildResult, BuildError> {
        kiln_engine::build(&self.engine, request, events, cancelled)
    }

    /// Builds the targets of a bake file.
    pub(crate) fn bake(
        &self,
        (targets, file): (&[BakeTarget], &str),
        events: &EventSink,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<BuildResult, (usize, BuildError)> {
        kiln_engine::bake(&self.engine, (targets, file), events, cancelled)
    }

    /// Reads standard input; an archive is kept.
    pub(crate) fn keep_input(&self, input: &mut dyn Read) -> Result<StandardInput, Failure> {
        kiln_engine::keep_input(&self.engine, input).map_err(context_failure)
    }

    /// Fetches a context, for the Dockerfile in it.
    pub(crate) fn fetch_context(
        &self,
        what: (&BuildRequest, &ContextAddress),
        events: &EventSink,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<FetchedContext, Failure> {
        kiln_engine::fetch_context(&self.engine, what, events, cancelled).map_err(context_failure)
    }

    /// Adds to a lock file what a build refers to.
    pub(crate) fn lock(
        &self,
        request: &BuildRequest,
        kept: (&LockFile, &Upgrade),
        locked: &mut LockFile,
        watch: Watch<'_>,
    ) -> Result<(), Failure> {
        kiln_engine::lock(&self.engine, request, kept, locked, watch)
            .map_err(|error| build_failure(error, &request.dockerfile))
    }

    /// Cleans up behind a build: what was thrown away is deleted, what was written reaches the
    /// disk. Called when the result is out.
    pub(crate) fn settle(&self) {
        if self.store.is_unsettled() {
            // The next build does what could not be done now.
            let _ = self.store.settle();
        }
        self.engine.complete_history();
    }

    /// Cleans up behind a build, and makes room if the policy says so; what went, if anything did.
    pub(crate) fn settle_build(&self, config: &Config) -> Result<Option<Pruned>, Failure> {
        if !self.store.is_unsettled() {
            self.engine.complete_history();
            return Ok(None);
        }
        let _ = self.store.settle();
        // git has had the time that the disk took.
        self.engine.complete_history();
        let policy = settings::cache_policy(config)?;
        self.store.collect(&policy).map_err(|error| store_failure(&error))
    }

    /// What the store holds.
    pub(crate) fn inventory(&self) -> Result<Inventory, Failure> {
        self.store.inventory().map_err(|error| store_failure(&error))
    }

    /// Removes cache.
    pub(crate) fn prune(&self, what: &Prune) -> Result<Pruned, Failure> {
        self.store.prune(what).map_err(|error| store_failure(&error))
    }

    /// What [`prune`](Self::prune) would remove.
    pub(crate) fn prunable(&self, what: &Prune) -> Result<Pruned, Failure> {
        self.store.prunable(what).map_err(|error| store_failure(&error))
    }

    /// Runs a container of an image until it ends, and hands on the signals that reach kiln;
    /// gives its exit code.
    pub(crate) fn run(&self, request: &RunRequest) -> Result<ExitCode, Failure> {
        let image = self.image(&request.image)?;
        if request.stdin == Stdin::Null {
            let null = File::open("/dev/null");
            null.and_then(|null| Ok(rustix::stdio::dup2_stdin(&null)?))
                .map_err(|error| Failure::file("open", "/dev/null", error))?;
        }
        let volumes = request.volumes.iter().map(|volume| Volume {
            host: volume.host.clone(),
            container: volume.container.clone(),
            access: match volume.access {
                Access::ReadOnly => kiln_sandbox::Access::ReadOnly,
                Access::ReadWrite => kiln_sandbox::Access::ReadWrite,
            },
        });
        let container = ContainerRequest {
            image: request.image.clone(),
            manifest: image.manifest,
            config: image.config,
            entrypoint: request.entrypoint.clone(),
            command: request.command.clone(),
            environment: request.environment.clone(),
            volumes: volumes.collect(),
            working_directory: request.working_directory.clone(),
            user: request.user.clone(),
            network: request.network,
        };
        let not_run = |error| match error {
            ContainerError::Invalid(message) => Failure::usage(message),
            ContainerError::Start(error) => {
                Failure::input("run-failed", format!("{}: {error}", request.image))
            }
            ContainerError::Image(error) => {
                build_failure(error, &SourceFile::new(&request.image, ""))
            }
        };
        // While signals still end kiln.
        kiln_engine::fetch_files(&self.engine, &container).map_err(not_run)?;
        // Before the command starts: it may be told to end as soon as it runs.
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])
            .map_err(|error| Failure::environment(format!("signals cannot be watched: {error}")))?;
        let started = |running: &Running| forward_signals(running, signals);
        let status = run_container(&self.engine, &container, started).map_err(not_run)?.status;
        self.settle();
        Ok(match status {
            ExitStatus::Code(code) => ExitCode::from(code as u8),
            // As a shell reports it.
            ExitStatus::Signal(signal) => ExitCode::from((128 + signal) as u8),
        })
    }

    /// All images, by name.
    pub(crate) fn images(&self) -> Result<Vec<StoredImage>, Failure> {
        let listed = self.store.images().list().map_err(|error| store_failure(&error))?;
        let named: BTreeSet<BlobDigest> = listed
            .iter()
            .filter(|(name, _)| !is_digest(name))
            .map(|(_, descriptor)| descriptor.digest)
            .collect();
        // An image that has a name needs no line for its digest.
        let shown = listed
            .into_iter()
            .filter(|(name, descriptor)| !is_digest(name) || !named.contains(&descriptor.digest));
        shown.map(|(name, descriptor)| self.load(name, descriptor)).collect()
    }

    /// What a cache mount holds, if a step has used it.
    pub(crate) fn cache_mount_content(&self, id: &str) -> Option<CacheMountContent> {
        Some(match self.store.cache_mounts().content(id)? {
            MountContent::Empty => CacheMountContent::Empty,
            MountContent::Files => CacheMountContent::Files,
        })
    }

    /// The image of exactly this name, if it is in the store and whole.
    pub(crate) fn named_image(&self, name: &str) -> Option<StoredImage> {
        let full = name.parse::<Reference>().ok()?.to_string();
        let descriptor = self.store.images().resolve(&full).ok()??;
        self.load(full, descriptor).ok()
    }

    /// The image that a name, a digest or the start of an image id means.
    pub(crate) fn image(&self, name: &str) -> Result<StoredImage, Failure> {
        if let Ok(reference) = name.parse::<Reference>() {
            let full = reference.to_string();
            let found =
                self.store.images().resolve(&full).map_err(|error| store_failure(&error))?;
            if let Some(descriptor) = found {
                return self.load(full, descriptor);
            }
        }
        let images = self.images()?;
        let start = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = start.len() >= 4 && start.bytes().all(|byte| byte.is_ascii_hexdigit());
        let by_id = images.iter().find(|image| {
            let digests = [image.id(), image.descriptor.digest, image.manifest_digest];
            is_hex && digests.iter().any(|digest| digest.hex().starts_with(start))
        });
        if let Some(image) = by_id {
            return Ok(image.clone());
        }
        let failure = Failure::input("no-image", format!("no image `{name}` in the store"));
        let names: Vec<String> = images
            .iter()
            .filter_map(|image| Some(crate::render::summary::familiar(image.name.as_deref()?)))
            .collect();
        Err(match did_you_mean(name, names.iter().map(String::as_str)) {
            Some(near) => failure.with_help(format!("did you mean `{near}`?")),
            None => failure.with_help("`kiln images` lists them"),
        })
    }

    /// The image that the store knows as `name`: a reference, or the digest of one without.
    fn load(&self, name: String, descriptor: Descriptor) -> Result<StoredImage, Failure> {
        let shown = name.clone();
        let broken = |error: serde_json::Error| {
            Failure::environment(format!("image {shown} is broken: {error}"))
        };
        let read = |digest: &BlobDigest| {
            self.store.content().read(digest).map_err(|error| store_failure(&error))
        };
        let mut manifest_digest = descriptor.digest;
        let mut bytes = read(&manifest_digest)?;
        if media_type::is_index(&descriptor.media_type) {
            let index: Index = serde_json::from_slice(&bytes).map_err(broken)?;
            let host = Platform::host();
            let chosen = index.select(&host).or_else(|| index.manifests.first());
            let chosen = chosen.ok_or_else(|| {
                Failure::environment(format!("image {shown} is broken: its index is empty"))
            })?;
            manifest_digest = chosen.digest;
            bytes = read(&manifest_digest)?;
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(broken)?;
        let config: ImageConfig =
            serde_json::from_slice(&read(&manifest.config.digest)?).map_err(broken)?;
        let mut size_bytes = 0;
        let diff_ids = config.rootfs.diff_ids.iter().flatten();
        for (diff_id, layer) in diff_ids.zip(&manifest.layers) {
            let known = self.store.layers().by_diff_id(diff_id);
            let known = known.map_err(|error| store_failure(&error))?;
            size_bytes += known.and_then(|known| known.size_bytes).unwrap_or(layer.size);
        }
        let name = (!is_digest(&name)).then_some(name);
        Ok(StoredImage { name, descriptor, manifest_digest, manifest, config, size_bytes })
    }

    /// Takes a name from the image that has it; gives the full name.
    pub(crate) fn untag(&self, name: &str) -> Result<String, Failure> {
        let image = self.image(name)?;
        let full = image.name.unwrap_or_else(|| image.descriptor.digest.to_string());
        self.store.images().untag(&full).map_err(|error| store_failure(&error))?;
        Ok(full)
    }

    /// Asks a registry's API whether it is there; gives what it said in one line.
    pub(crate) fn ping_registry(&self, host: &str) -> Result<String, Failure> {
        // A name that no registry has: the answer tells that it is there and lets us in.
        let text = format!("{host}/kiln-doctor/ping:none");
        let reference: Reference = text
            .parse()
            .map_err(|_| Failure::usage(format!("`{host}` is not a registry's host")))?;
        match self.engine.registry().resolve(&reference) {
            Ok(_) | Err(kiln_registry::Error::NotFound { .. }) => Ok("it answers".to_owned()),
            Err(error @ kiln_registry::Error::Unauthorized { .. }) => {
                Ok(format!("it answers, and asks for a login ({error})"))
            }
            Err(error) => {
                let failure = Failure::environment(kiln_engine::with_causes(&error));
                Err(match error.hint() {
                    Some(hint) => failure.with_help(hint),
                    None => failure,
                })
            }
        }
    }

    /// The last builds, newest first, without their steps.
    pub(crate) fn last_builds(&self, count: usize) -> Result<Vec<BuildReport>, Failure> {
        self.store.history().last(count).map_err(|error| store_failure(&error))
    }

    /// The end of what the steps of a build wrote.
    pub(crate) fn build_logs(&self, id: BuildId) -> Result<Vec<StepLog>, Failure> {
        self.store.history().logs(id).map_err(|error| store_failure(&error))
    }

    /// Forgets builds; tells how many there were.
    pub(crate) fn forget_builds(&self, ids: &[BuildId]) -> Result<usize, Failure> {
        self.store.history().remove(ids).map_err(|error| store_failure(&error))
    }

    /// A build of the history by its number.
    pub(crate) fn build_report(&self, id: BuildId) -> Result<Option<BuildReport>, Failure> {
        self.store.history().build(id).map_err(|error| store_failure(&error))
    }

    /// What a build took of its context, and the layers of its images.
    pub(crate) fn contents(&self, build: &BuildReport) -> Contents {
        kiln_engine::contents(&self.engine, build)
    }

    /// What a key is made of, if the store has its record.
    pub(crate) fn key_parts(&self, key: &CacheKey) -> Result<Option<KeyParts>, Failure> {
        let record = self.store.cache_index().lookup(key);
        let record = record.map_err(|error| store_failure(&error))?;
        Ok(record.map(|record| record.parts))
    }

    /// Verifies the store.
    pub(crate) fn fsck(&self, repair: Repair) -> Result<StoreReport, Failure> {
        let report = fsck::fsck(&self.store, repair).map_err(|error| store_failure(&error))?;
        Ok(StoreReport {
            blobs: report.blobs,
            layers: report.layers,
            records: report.records,
            images: report.images,
            problems: report.problems.iter().map(ToString::to_string).collect(),
        })
    }
}

/// Whether the store knows an image by its digest only.
fn is_digest(name: &str) -> bool {
    name.parse::<BlobDigest>().is_ok()
}

/// What the registry client needs of the environment.
fn registry_config(config: &Config) -> RegistryConfig {
    let path = |name: &str| config.variable(name).map(PathBuf::from);
    let any = |names: [&str; 2]| names.iter().find_map(|name| config.variable(name));
    RegistryConfig {
        ca_files: path("SSL_CERT_FILE").into_iter().collect(),
        ca_directories: config
            .variable("SSL_CERT_DIR")
            .map(|list| list.split(':').map(PathBuf::from).collect())
            .unwrap_or_default(),
        docker_config: config.docker_config(),
        proxies: Proxies {
            http: any(["http_proxy", "HTTP_PROXY"]).map(str::to_owned),
            https: any(["https_proxy", "HTTPS_PROXY"]).map(str::to_owned),
            no_proxy: any(["no_proxy", "NO_PROXY"]).unwrap_or_default().to_owned(),
        },
        routes: routes(config),
        git: git_program(config),
        objects: object_settings(config),
        ..RegistryConfig::default()
    }
}

/// Where mirrors, certificates and the like of registries are written down; see
/// `docs/registries.md`.
fn routes(config: &Config) -> RouteFiles {
    let user = config.user_configuration();
    let all = |in_user: &str, of_system: &[&str]| -> Vec<PathBuf> {
        let own = user.iter().map(|directory| directory.join(in_user));
        own.chain(of_system.iter().map(PathBuf::from)).collect()
    };
    let mut certificates = all("containerd/certs.d", &["/etc/containerd/certs.d"]);
    certificates.extend(all("docker/certs.d", &["/etc/docker/certs.d"]));
    certificates.extend(all("containers/certs.d", &["/etc/containers/certs.d"]));
    let named = config.variable("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    RouteFiles {
        project_settings: Some(config.project_settings()),
        user_settings: config.user_settings(),
        certificates,
        registries_conf: named.map_or_else(
            || all("containers/registries.conf", &["/etc/containers/registries.conf"]),
            |named| vec![named],
        ),
    }
}

/// What object stores need of the environment.
pub(crate) fn object_settings(config: &Config) -> ObjectSettings {
    let known = ObjectSettings::VARIABLES.iter();
    ObjectSettings {
        variables: known
            .filter_map(|name| Some(((*name).to_owned(), config.variable(name)?.to_owned())))
            .collect(),
        home: config.variable("HOME").map(PathBuf::from),
    }
}

/// What git needs of the environment.
fn git_program(config: &Config) -> GitProgram {
    let known = GitProgram::VARIABLES.iter();
    GitProgram {
        path: config.path.clone(),
        home: config.variable("HOME").map(PathBuf::from),
        variables: known
            .filter_map(|name| Some(((*name).to_owned(), config.variable(name)?.to_owned())))
            .collect(),
    }
}

/// Hands the signals that ask kiln to end on to a container's command; the second of them ends
/// it, as a command that is process 1 of its container ignores what it has no handler for.
fn forward_signals(running: &Running, mut signals: Signals) {
    let killer = running.killer();
    let Ok(pidfd) = running.pidfd().try_clone_to_owned() else { return };
    let watch = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                let _ = killer.kill();
            } else if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = pidfd_send_signal(&pidfd, signal);
            }
        }
    };
    // Without the thread the container still runs; it just is not told.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
}
