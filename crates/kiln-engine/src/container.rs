//! `kiln run`: a command in a container of an image of the store, in the foreground.
//!
//! What the container writes goes to a layer that is thrown away at its end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kiln_core::oci::{ImageConfig, Manifest};
use kiln_core::plan::Network;
use kiln_sandbox::{
    Access, Exit, Mount, MountKind, Network as SandboxNetwork, Privileges, Process, Recursion,
    Rootfs, Running, Spec, Stdio,
};
use kiln_store::layer::{LayerIndex, Tree};

use crate::base_image::{BaseImage, Fetcher, Want};
use crate::engine::Engine;
use crate::error::{BuildError, FileContext, StepError};
use crate::machine::emulator;
use crate::network_files::network_files;
use crate::op::exec::DEFAULT_PATH;
use crate::op::file::accounts;
use crate::op::mounts::read_only;
use crate::solve::adopt_root;
use crate::source_tree::SourceTree;

/// One container.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// The image, as the user names it.
    pub image: String,
    /// The image's manifest.
    pub manifest: Manifest,
    /// The image's config.
    pub config: ImageConfig,
    /// Instead of the image's ENTRYPOINT; then the image's CMD does not count.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's CMD, when not empty.
    pub command: Vec<String>,
    /// Over the image's ENV, in this order.
    pub environment: Vec<(String, String)>,
    /// Files of the host that the container sees.
    pub volumes: Vec<Volume>,
    /// Instead of the image's WORKDIR.
    pub working_directory: Option<String>,
    /// Instead of the image's USER.
    pub user: Option<String>,
    /// Network.
    pub network: Network,
}

/// A directory or file of the host in a container.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Path on the host.
    pub host: PathBuf,
    /// Absolute path in the container.
    pub container: PathBuf,
    /// Whether the container may write.
    pub access: Access,
}

/// Why a container did not run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The request, or the image, says nothing that can run.
    #[error("{0}")]
    Invalid(String),
    /// The command is not in the image.
    #[error("{0}")]
    Start(kiln_sandbox::Error),
    /// The image's files could not be had.
    #[error(transparent)]
    Image(#[from] BuildError),
}

impl From<kiln_store::Error> for ContainerError {
    fn from(error: kiln_store::Error) -> Self {
        Self::Image(error.into())
    }
}

/// Brings the files of a container's image into the store, as far as they are not there: a build
/// may have left layers where they were. It can be killed at any time.
///
/// # Errors
/// When a layer is not in the store and cannot be had.
pub fn fetch_files(engine: &Engine, request: &ContainerRequest) -> Result<(), ContainerError> {
    let _in_use = engine.store.lock_shared(&AtomicBool::new(false))?;
    let brought = request.base_image().bring(&Fetcher::silent(engine), Want::Files);
    Ok(engine.forget_lost(brought)?)
}

impl ContainerRequest {
    fn base_image(&self) -> BaseImage {
        let diff_ids = self.config.rootfs.diff_ids.clone().unwrap_or_default();
        BaseImage::in_store(self.image.clone(), (diff_ids, self.manifest.layers.clone()))
    }
}

/// Runs a container until its command ends. `started` is called with the running command, so
/// that signals can be handed on to it.
///
/// # Errors
/// When the command could not be started, or its end not be seen.
pub fn run_container(
    engine: &Engine,
    request: &ContainerRequest,
    started: impl FnOnce(&Running),
) -> Result<Exit, ContainerError> {
    let _in_use = engine.store.lock_shared(&AtomicBool::new(false))?;
    let (image, fetcher) = (request.base_image(), Fetcher::silent(engine));
    image.bring(&fetcher, Want::Files)?;
    let mut layers = Vec::new();
    let mut indexes = Vec::new();
    for position in 0..image.diff_ids.len() {
        let layer = image.layer(&fetcher, position)?;
        let bytes = std::fs::read(&layer.index_path).at("read", &layer.index_path)?;
        indexes.push(Arc::new(LayerIndex::decode(&bytes).map_err(BuildError::from)?));
        layers.push(layer.fs.clone());
    }
    let working = engine.store.layers().begin()?;
    let tree = Tree::new(indexes);
    if let Some((_, position)) = tree.lookup(b"") {
        adopt_root(&working.upper, &layers[position])?;
    }
    let scratch = engine.store.scratch_dir()?;
    let host = host_name();
    let mut mounts: Vec<Mount> = network_files(scratch.path(), &host, &[])?
        .into_iter()
        .map(|(name, source)| Mount {
            destination: PathBuf::from("/etc").join(name),
            kind: read_only(source),
        })
        .collect();
    mounts.extend(request.volumes.iter().map(|volume| Mount {
        destination: volume.container.clone(),
        kind: MountKind::Bind {
            source: volume.host.clone(),
            selector: PathBuf::new(),
            access: volume.access,
            recursion: Recursion::Recursive,
        },
    }));
    let tree = SourceTree::of_layers(Arc::new(tree), layers.clone());
    let spec = Spec {
        rootfs: Rootfs {
            lowers: layers.into_iter().rev().collect(),
            upper: working.upper.clone(),
            work: working.work.clone(),
            access: Access::ReadWrite,
        },
        mounts,
        process: process(request, &tree)?,
        network: match request.network {
            Network::None => SandboxNetwork::None,
            Network::Default | Network::Host => SandboxNetwork::Host,
        },
        hostname: host,
        stdio: Stdio::Inherit,
        privileges: Privileges::Default,
        emulator: emulator(engine, &request.config.platform().to_string()).map_err(|error| {
            match error {
                StepError::Build(error) => ContainerError::Image(error),
                StepError::Failed { message, .. } => ContainerError::Invalid(message),
            }
        })?,
    };
    let running = kiln_sandbox::spawn(&spec).map_err(ContainerError::Start)?;
    started(&running);
    running.wait().map_err(ContainerError::Start)
}

/// With the host's network, the container has the host's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn process(request: &ContainerRequest, tree: &SourceTree) -> Result<Process, ContainerError> {
    let config = &request.config.config;
    let image_command = match request.entrypoint {
        Some(_) => Vec::new(),
        None => config.cmd.clone().unwrap_or_default(),
    };
    let command = if request.command.is_empty() { image_command } else { request.command.clone() };
    let entrypoint = request.entrypoint.clone().or_else(|| config.entrypoint.clone());
    let args: Vec<String> = entrypoint.unwrap_or_default().into_iter().chain(command).collect();
    if args.is_empty() {
        let message = "the image has neither ENTRYPOINT nor CMD: say which command to run";
        return Err(ContainerError::Invalid(message.to_owned()));
    }
    let spec = request.user.as_deref().unwrap_or(&config.user);
    let accounts = accounts(tree).map_err(|error| ContainerError::Invalid(error.to_string()))?;
    let user = accounts.process_user(spec).map_err(ContainerError::Invalid)?;
    let mut env: Vec<(String, String)> =
        vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOME".to_owned(), user.home)];
    let own = config.env.iter().flatten().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    });
    for (name, value) in own.chain(request.environment.iter().cloned()) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    let cwd = request.working_directory.clone().unwrap_or_else(|| config.working_dir.clone());
    Ok(Process {
        args: args.into_iter().map(OsString::from).collect(),
        env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        cwd: PathBuf::from(if cwd.is_empty() { "/".to_owned() } else { cwd }),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        limits: Vec::new(),
    })
}
