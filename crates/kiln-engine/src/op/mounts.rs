//! The mounts of a RUN: from a plan's words to what the sandbox mounts.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kiln_core::plan::{Access, ExecMount, MountKind, Sharing};
use kiln_sandbox::{Mount, MountKind as SandboxMount, Recursion, WritableLayer};
use kiln_store::{CacheMount, MountAttributes, ScratchDir, Seeding, WorkingLayer};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{FileContext, StepError};
use crate::request::SecretSource;
use crate::solve::{Solver, StepInputs};
use crate::ssh::Forwarded;

/// Where secrets live while a command runs: memory, on every Linux.
const MEMORY_DIRECTORY: &str = "/dev/shm";

/// How the names of these directories begin.
const PRIVATE_PREFIX: &str = "kiln-private-";

/// Mounts with all that must live as long as the command does.
#[derive(Debug, Default)]
pub(crate) struct MountSet {
    pub(crate) mounts: Vec<Mount>,
    /// Variables that mounts define (secrets by `env=`).
    pub(crate) env: Vec<(String, String)>,
    /// Values that must not be shown.
    pub(crate) hidden: Vec<Vec<u8>>,
    /// By id: a command that names one twice has it once.
    caches: BTreeMap<String, CacheMount>,
    scratch: Vec<WorkingLayer>,
    /// Before the directories of their sockets.
    agents: Vec<Forwarded>,
    private: Vec<PrivateDirectory>,
}

/// A directory that only we can enter and that goes away with its value: in memory, or, where
/// there is no such place, in the store. One in memory is locked while it is in use; those that
/// nobody has locked were left by a killed process, and whoever makes the next one removes them.
#[derive(Debug)]
enum PrivateDirectory {
    Memory { path: PathBuf, _lock: OwnedFd },
    Store(ScratchDir),
}

impl PrivateDirectory {
    fn new(solver: &Solver<'_>) -> Result<Self, StepError> {
        remove_abandoned();
        // Before it is locked, another process may take it for an abandoned one.
        for _ in 0..10 {
            let name = format!("{PRIVATE_PREFIX}{}-{}", std::process::id(), solver.number());
            let path = Path::new(MEMORY_DIRECTORY).join(name);
            if DirBuilder::new().mode(0o700).create(&path).is_ok()
                && let Some(lock) = try_lock(&path)
                && path.is_dir()
            {
                return Ok(Self::Memory { path, _lock: lock });
            }
        }
        Ok(Self::Store(solver.engine.store.scratch_dir()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Memory { path, .. } => path,
            Self::Store(directory) => directory.path(),
        }
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Self::Memory { path, .. } = self {
            // Nothing can be done about a failure; the next build tries again.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Locks a directory that nobody else has locked.
fn try_lock(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory)
}

/// Removes directories of ours whose process is gone. What is another user's stays: it cannot be
/// opened.
fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir(MEMORY_DIRECTORY) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.filter_map(Result::ok) {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PRIVATE_PREFIX)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        if is_ours && let Some(_lock) = try_lock(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl MountSet {
    /// Prepares the mounts of a step. Locked caches are taken in the order of their ids, so that
    /// two steps never wait for each other.
    pub(crate) fn prepare(
        solver: &Solver<'_>,
        mounts: &[ExecMount],
        inputs: &StepInputs,
    ) -> Result<Self, StepError> {
        let mut set = Self::default();
        let mut slots: Vec<Option<Mount>> = vec![None; mounts.len()];
        let mut order: Vec<usize> = (0..mounts.len()).collect();
        order.sort_by_key(|index| match &mounts[*index].kind {
            MountKind::Cache { id, .. } => Some(id.clone()),
            _ => None,
        });
        for index in order {
            slots[index] = set.prepare_one(solver, (index, &mounts[index]), inputs)?;
        }
        set.mounts = slots.into_iter().flatten().collect();
        // Those above before those below, however they are written (BuildKit).
        set.mounts.sort_by(|one, other| {
            one.destination.as_os_str().as_bytes().cmp(other.destination.as_os_str().as_bytes())
        });
        Ok(set)
    }

    fn prepare_one(
        &mut self,
        solver: &Solver<'_>,
        (index, mount): (usize, &ExecMount),
        inputs: &StepInputs,
    ) -> Result<Option<Mount>, StepError> {
        let kind = match &mount.kind {
            MountKind::Bind { access, .. } => self.bind(solver, inputs, (index, *access))?,
            MountKind::Cache { .. } => self.cache(solver, mount, (index, inputs))?,
            MountKind::Tmpfs { size_bytes, access } => SandboxMount::Tmpfs {
                size_bytes: *size_bytes,
                mode: 0o1777,
                access: sandbox_access(*access),
            },
            MountKind::Secret { .. } => return self.secret(solver, mount),
            MountKind::Ssh { .. } => return self.ssh(solver, mount),
        };
        Ok(mount.target.as_ref().map(|target| Mount { destination: target.into(), kind }))
    }

    fn bind(
        &mut self,
        solver: &Solver<'_>,
        inputs: &StepInputs,
        (index, access): (usize, Access),
    ) -> Result<SandboxMount, StepError> {
        let (layers, selector) = inputs.mounted(solver, index)?;
        let writable = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => {
                let layer = self.scratch_layer(solver)?;
                Some(layer)
            }
        };
        let mut lowers: Vec<PathBuf> = layers.iter().rev().cloned().collect();
        if lowers.is_empty() {
            lowers.push(self.scratch_layer(solver)?.upper);
        }
        Ok(SandboxMount::Overlay { lowers, writable, selector })
    }

    fn scratch_layer(&mut self, solver: &Solver<'_>) -> Result<WritableLayer, StepError> {
        let layer = solver.engine.store.layers().begin()?;
        let paths = WritableLayer { upper: layer.upper.clone(), work: layer.work.clone() };
        self.scratch.push(layer);
        Ok(paths)
    }

    fn cache(
        &mut self,
        solver: &Solver<'_>,
        mount: &ExecMount,
        (index, inputs): (usize, &StepInputs),
    ) -> Result<SandboxMount, StepError> {
        let MountKind::Cache { id, source, sharing, seed, mode, uid, gid, access } = &mount.kind
        else {
            unreachable!("only cache mounts come here");
        };
        // One that begins with files is another one than that which does not (BuildKit).
        let id = &match inputs.seed_content(solver, index)? {
            Some(content) => format!("{id} (from {content})"),
            None => id.clone(),
        };
        let sharing = match sharing {
            Sharing::Shared => kiln_store::Sharing::Shared,
            Sharing::Private => kiln_store::Sharing::Private,
            Sharing::Locked => kiln_store::Sharing::Locked,
        };
        let selector = PathBuf::from(source.trim_start_matches('/'));
        let bind = |cache: &CacheMount| SandboxMount::Bind {
            source: cache.path.clone(),
            selector: selector.clone(),
            access: sandbox_access(*access),
            recursion: Recursion::Single,
        };
        if let Some(known) = self.caches.get(id) {
            return Ok(bind(known));
        }
        let mounts = solver.engine.store.cache_mounts();
        if solver.takes_fresh_cache_mount(id) {
            mounts.reset(id)?;
        }
        let seeding = if seed.is_some() { Seeding::ByHolder } else { Seeding::Empty };
        let attributes = MountAttributes { mode: *mode, uid: *uid, gid: *gid, seeding };
        let cache = mounts.acquire(id, sharing, &attributes, &solver.stopped)?;
        if cache.is_new && seed.is_some() {
            inputs.seed(solver, index, &cache.path)?;
            cache.seeded()?;
        }
        let mount = bind(&cache);
        self.caches.insert(id.clone(), cache);
        Ok(mount)
    }

    fn secret(
        &mut self,
        solver: &Solver<'_>,
        mount: &ExecMount,
    ) -> Result<Option<Mount>, StepError> {
        let MountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else {
            unreachable!("only secrets come here");
        };
        let value = match solver.request.secrets.get(id) {
            Some(SecretSource::Value(value)) => value.clone(),
            Some(SecretSource::File(path)) => std::fs::read(path).at("read", path)?,
            None if *required => {
                let message = format!("secret {id}: not found");
                let help = format!(
                    "pass it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`"
                );
                return Err(StepError::failed("missing-secret", message).with_help(help));
            }
            None => {
                // A variable for a secret that is not there is empty (BuildKit).
                self.env.extend(env.as_ref().map(|name| (variable(name, id), String::new())));
                return Ok(None);
            }
        };
        if let Some(name) = env {
            let name = variable(name, id);
            self.env.push((name, String::from_utf8_lossy(&value).into_owned()));
        }
        self.hidden.push(value.clone());
        let Some(target) = &mount.target else { return Ok(None) };
        let source = self.private_file(solver, (&value, "secret"), *mode)?;
        chown(&source, Some(*uid), Some(*gid)).at("change the owner of", &source)?;
        let kind = read_only(source);
        Ok(Some(Mount { destination: target.into(), kind }))
    }

    /// A socket of the command's own, behind which the user's agent is.
    fn ssh(&mut self, solver: &Solver<'_>, mount: &ExecMount) -> Result<Option<Mount>, StepError> {
        let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else {
            unreachable!("only agents come here");
        };
        let Some(source) = solver.request.ssh.get(id) else {
            if !*required {
                return Ok(None);
            }
            let message = format!("no SSH key \"{id}\" forwarded from the client");
            let help = format!("forward one with `--ssh {id}` or `--ssh {id}=SOCKET|KEY`");
            return Err(StepError::failed("missing-ssh", message).with_help(help));
        };
        let agent = solver.ssh_agents.socket(id, source, || {
            let directory = PrivateDirectory::new(solver)?;
            Ok((directory.path().to_owned(), directory))
        })?;
        let directory = PrivateDirectory::new(solver)?;
        let path = directory.path().join("agent");
        self.private.push(directory);
        let listener = UnixListener::bind(&path).at("listen at", &path)?;
        let mode = Permissions::from_mode(*mode);
        std::fs::set_permissions(&path, mode).at("change the mode of", &path)?;
        chown(&path, Some(*uid), Some(*gid)).at("change the owner of", &path)?;
        self.agents.push(Forwarded::start(listener, agent).at("forward", &path)?);
        let kind = SandboxMount::Bind {
            source: path,
            selector: PathBuf::new(),
            access: kiln_sandbox::Access::ReadWrite,
            recursion: Recursion::Single,
        };
        Ok(mount.target.as_ref().map(|target| Mount { destination: target.into(), kind }))
    }

    /// A file in memory that is mounted read-only, gone with this value.
    pub(crate) fn private_file(
        &mut self,
        solver: &Solver<'_>,
        (contents, name): (&[u8], &str),
        mode: u32,
    ) -> Result<PathBuf, StepError> {
        let directory = PrivateDirectory::new(solver)?;
        let path = directory.path().join(name);
        self.private.push(directory);
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at("create", &path)?;
        file.write_all(contents).at("write", &path)?;
        file.set_permissions(Permissions::from_mode(mode)).at("change the mode of", &path)?;
        Ok(path)
    }
}

fn sandbox_access(access: Access) -> kiln_sandbox::Access {
    match access {
        Access::ReadOnly => kiln_sandbox::Access::ReadOnly,
        Access::ReadWrite => kiln_sandbox::Access::ReadWrite,
    }
}

/// The variable that holds a secret: `env=NAME`, or the secret's id for a bare `env`.
fn variable(name: &str, id: &str) -> String {
    if name.is_empty() { id.to_owned() } else { name.to_owned() }
}

/// A read-only bind of one file.
pub(crate) fn read_only(source: PathBuf) -> SandboxMount {
    SandboxMount::Bind {
        source,
        selector: PathBuf::new(),
        access: kiln_sandbox::Access::ReadOnly,
        recursion: Recursion::Single,
    }
}
