//! Solves a plan: every step gets its result, from the cache or by doing it.
//!
//! ```text
//! key of inputs' content ──▶ cached? ── yes ─▶ result
//!                               │ no
//!                               ▼
//!         lock the key (other processes) ─▶ cached now? ─▶ do it ─▶ scan ─▶ commit ─▶ record
//! ```
//!
//! A result whose content is equal to that of an earlier run of the same instruction keeps the
//! earlier layer, so that nothing that follows has to run (early cutoff).

mod accounts;
mod ahead;
mod behind;
mod cause;
mod diff;
mod file_step;
mod inputs;
mod journal;
mod make;
mod schedule;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use kiln_core::cache_key::{self, KeyParts};
use kiln_core::digest::{BlobDigest, CacheKey, ContentId, StepId};
use kiln_core::event::Outcome;
use kiln_core::file_list;
use kiln_core::plan::{ExtraHost, Op, Plan, SourceOp, Step};
use kiln_sandbox::Killer;
use kiln_store::layer::LayerIndex;
use kiln_store::{CacheRecord, Layer, ScratchDir, StepResult};

use ahead::Ahead;
use cause::Ingredients;
pub(crate) use file_step::fits_archive;
pub(crate) use inputs::{StepInputs, context_key, is_of_context};
pub(crate) use journal::Journal;
use make::NewLayer;
pub(crate) use make::adopt_root;
pub(crate) use schedule::{Done, solve};

use crate::activity::{Activities, Running};
use crate::base_image::{BaseImage, Fetcher};
use crate::cache::Imports;
use crate::context::Context;
use crate::engine::Engine;
use crate::error::{BuildError, StepError};
use crate::export::early::EarlyArchive;
use crate::history::Recorded;
use crate::lock_file;
use crate::network_files::{NetworkFiles, network_files};
use crate::op::download::download;
use crate::op::exec::counted;
use crate::op::git::check_out;
use crate::request::{BuildRequest, CacheUse, NamedContext};
use crate::snapshot::Snapshot;
use crate::source_tree::SourceTree;
use crate::ssh::SshAgents;
use crate::wanted::WantedFiles;

/// Host name that commands see (BuildKit's).
pub(crate) const HOST_NAME: &str = "buildkitsandbox";

/// Steps that may run at the same time on the smallest machine: many wait for the network.
const LEAST_PARALLEL: usize = 4;

/// The result of a step.
#[derive(Clone, Debug)]
pub(crate) enum Solved {
    /// A file system.
    Snapshot(Snapshot),
    /// Files of the user's.
    Context(Arc<Context>),
}

/// Everything that the steps of one build share.
#[derive(Debug)]
pub(crate) struct Solver<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a BuildRequest,
    /// What is kept of the build.
    recorded: Recorded<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) activities: &'a Activities,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// Set when nothing more is to run: the build was canceled, or a step failed.
    pub(crate) stopped: Arc<AtomicBool>,
    /// Brings layers of base images.
    pub(crate) fetcher: Fetcher,
    /// What other machines have built.
    pub(crate) imports: Imports,
    /// The output's file, begun while steps run.
    pub(crate) early_archive: Option<EarlyArchive>,
    ahead: Ahead,
    images: BTreeMap<BlobDigest, Arc<BaseImage>>,
    contexts: Mutex<BTreeMap<Option<String>, Arc<Context>>>,
    trees: Mutex<BTreeMap<Option<ContentId>, SourceTree>>,
    indexes: Mutex<BTreeMap<PathBuf, Arc<LayerIndex>>>,
    killers: Mutex<BTreeMap<u64, Killer>>,
    /// Set when a step had to run: not all comes from the cache.
    has_run: AtomicBool,
    /// Cache mounts that were emptied by this build (`--no-cache`).
    emptied: Mutex<BTreeSet<String>>,
    /// Made when the first command needs them, gone with the build.
    network_files: Mutex<Option<(ScratchDir, NetworkFiles)>>,
    /// Steps whose results are needed as directories.
    directories: BTreeSet<StepId>,
    /// Agents of `RUN --mount=type=ssh`.
    pub(crate) ssh_agents: SshAgents,
    next: AtomicU64,
    parallelism: OnceLock<usize>,
    /// What is known of the steps.
    pub(crate) journal: Journal,
    start: Instant,
}

/// A result and how it came about.
struct Made {
    snapshot: Snapshot,
    outcome: Outcome,
}

/// What is remembered of a layer that was just made.
pub(crate) fn record_of(
    layer: &Layer,
    (recipe, parts): ([u8; 32], KeyParts),
    name: &str,
) -> CacheRecord {
    CacheRecord {
        result: StepResult { layer: layer.id, content: layer.content },
        recipe,
        parts,
        created_unix: unix_seconds() as u64,
        duration_ms: 0,
        name: name.to_owned(),
    }
}

/// Keeps a command in the list of those that a cancel ends.
pub(crate) struct Registered<'a> {
    solver: &'a Solver<'a>,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.solver.killers).remove(&self.number);
    }
}

/// Locks a mutex; no thread panics while it holds one, except in a bug that ends the build.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<'a> Solver<'a> {
    pub(crate) fn new(
        (engine, request, recorded): (&'a Engine, &'a BuildRequest, Recorded<'a>),
        plan: &'a Plan,
        images: BTreeMap<BlobDigest, Arc<BaseImage>>,
        (activities, cancelled): (&'a Activities, Arc<AtomicBool>),
        start: Instant,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let fetcher = Fetcher::new(engine, activities, Arc::clone(&stopped));
        let directories = file_step::directories(plan, &request.outputs);
        for step in &directories {
            if let Op::Source(SourceOp::Image { manifest, .. }) = &plan.steps[step].op
                && let Some(image) = images.get(manifest)
            {
                image.unpack_at_once();
            }
        }
        Self {
            engine,
            request,
            recorded,
            plan,
            activities,
            cancelled,
            stopped,
            fetcher,
            imports: Imports::default(),
            early_archive: EarlyArchive::of(plan, request),
            ahead: Ahead::default(),
            images,
            contexts: Mutex::default(),
            trees: Mutex::default(),
            indexes: Mutex::default(),
            killers: Mutex::default(),
            has_run: AtomicBool::new(false),
            emptied: Mutex::default(),
            network_files: Mutex::default(),
            directories,
            ssh_agents: SshAgents::default(),
            next: AtomicU64::new(0),
            parallelism: OnceLock::new(),
            journal: Journal::new(plan, &request.dockerfile, activities.elapsed()),
            start,
        }
    }

    /// How many steps run at the same time. The machine is asked when it matters first: a build
    /// whose steps are all cached has no use for it.
    fn parallelism(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(LEAST_PARALLEL, NonZero::get);
        *self.parallelism.get_or_init(|| cores().max(LEAST_PARALLEL))
    }

    /// Time since the build began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn is_canceled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// A number that no one else of this process has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether nothing more is to run.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether some step had to run.
    pub(crate) fn has_run(&self) -> bool {
        self.has_run.load(Ordering::Relaxed)
    }

    /// Ends all commands, those that run now and those that are about to, and all waiting.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.ahead.stop();
        for killer in lock(&self.killers).values() {
            // It may have ended by itself.
            let _ = killer.kill();
        }
    }

    /// Remembers a command, so that a cancel ends it.
    pub(crate) fn register(&self, killer: Killer) -> Registered<'_> {
        let number = self.number();
        let mut killers = lock(&self.killers);
        // Whoever stops the build looks at the list after saying so.
        if self.is_stopped() {
            let _ = killer.kill();
        }
        killers.insert(number, killer);
        drop(killers);
        Registered { solver: self, number }
    }

    /// `BUILDKIT_SANDBOX_HOSTNAME`
    pub(crate) fn host_name(&self) -> Option<&str> {
        self.request.plan.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").map(String::as_str)
    }

    /// Whether a step may use earlier results.
    fn cache_use(&self, step: &Step) -> CacheUse {
        if self.plan.refreshed.contains(&step.id) { CacheUse::Refresh } else { self.request.cache }
    }

    /// Whether a cache mount must be emptied now: with `--no-cache`, once a build.
    pub(crate) fn takes_fresh_cache_mount(&self, id: &str) -> bool {
        self.request.cache == CacheUse::Refresh && lock(&self.emptied).insert(id.to_owned())
    }

    /// `/etc/hosts` and `/etc/resolv.conf` as commands see them.
    /// All commands of a build have the same extra hosts.
    pub(crate) fn network_files(&self, extra: &[ExtraHost]) -> Result<NetworkFiles, StepError> {
        let mut known = lock(&self.network_files);
        if let Some((_, files)) = known.as_ref() {
            return Ok(files.clone());
        }
        let directory = self.engine.store.scratch_dir()?;
        let host_name = self.host_name().unwrap_or(HOST_NAME);
        let files = network_files(directory.path(), host_name, extra)?;
        *known = Some((directory, files.clone()));
        Ok(files)
    }

    /// Does one step, given the results of its inputs; `call_helpers` before that takes a while.
    fn step(
        &self,
        step: &Step,
        solved: Vec<Solved>,
        call_helpers: &dyn Fn(),
    ) -> Result<(Solved, Outcome), StepError> {
        match &step.op {
            Op::Source(SourceOp::Image { manifest, .. }) => {
                let image = self.images.get(manifest).expect("the planner knows its images");
                let snapshot = Snapshot::of_image(image);
                if let Some(content) = snapshot.content() {
                    self.journal.note_content(&step.id, content);
                }
                Ok((Solved::Snapshot(snapshot), Outcome::Cached))
            }
            Op::Source(SourceOp::Download { url, name, checksum }) => {
                call_helpers();
                let line = Some(self.line(step));
                let activity =
                    self.activities.start_step(&step.name, Some(step.id), (line, Vec::new()));
                let wanted = lock_file::wanted(self.request, (url, name), *checksum);
                let result = download(self, wanted, &activity);
                activity.finish(&result);
                let layer = result?;
                self.journal.note_content(&step.id, layer.content);
                let snapshot = Snapshot::default().with_layer(layer, unix_seconds());
                Ok((Solved::Snapshot(snapshot), Outcome::Done))
            }
            Op::Source(SourceOp::Git(source)) => {
                call_helpers();
                let line = Some(self.line(step));
                let activity =
                    self.activities.start_step(&step.name, Some(step.id), (line, Vec::new()));
                let result = check_out(self, source, &activity);
                match &result {
                    Ok((_, outcome)) => activity.complete(outcome.clone()),
                    Err(_) => activity.finish(&result),
                }
                let (layer, outcome) = result?;
                self.journal.note_content(&step.id, layer.content);
                let snapshot = Snapshot::default().with_layer(layer, unix_seconds());
                Ok((Solved::Snapshot(snapshot), outcome))
            }
            Op::Source(SourceOp::Context { name }) => {
                let context = self.context(name.as_deref(), step)?;
                Ok((Solved::Context(context), Outcome::Done))
            }
            Op::Exec(_) | Op::File(_) => {
                let mut inputs = StepInputs::new(step, solved);
                let made = self.cached_or_made(step, &mut inputs, call_helpers)?;
                Ok((Solved::Snapshot(made.snapshot), made.outcome))
            }
        }
    }

    fn context(&self, name: Option<&str>, step: &Step) -> Result<Arc<Context>, StepError> {
        let (root, ignore_file) = match name {
            None => (&self.request.context, self.request.ignore_file.as_deref()),
            Some(name) => {
                let known = self.request.named_contexts.get(name);
                let Some(NamedContext::Directory(path)) = known else {
                    let message = format!("named context `{name}` is no directory");
                    return Err(StepError::failed("context-failed", message));
                };
                (path, None)
            }
        };
        let activity = self.activities.start_look(&step.name, step.id, None);
        let result = Context::load(&self.engine.store, root, ignore_file)
            .map(|context| Arc::new(context.with_wanted(WantedFiles::of(self.plan, step))));
        activity.finish(&result);
        let context = result?;
        lock(&self.contexts).insert(name.map(str::to_owned), Arc::clone(&context));
        Ok(context)
    }

    /// The contexts that were read, to save what was hashed.
    pub(crate) fn read_contexts(&self) -> Vec<Arc<Context>> {
        lock(&self.contexts).values().cloned().collect()
    }

    fn cached_or_made(
        &self,
        step: &Step,
        inputs: &mut StepInputs,
        call_helpers: &dyn Fn(),
    ) -> Result<Made, StepError> {
        let fast = cache_key::key_parts(&step.op, &inputs.whole(self)?);
        if let Some(made) = self.cached(step, &fast.key(), inputs)? {
            return Ok(made);
        }
        call_helpers();
        self.fetch_ahead(step);
        let exact = match inputs.selected(self)? {
            Some(contents) => cache_key::key_parts(&step.op, &contents),
            None => fast.clone(),
        };
        if exact != fast
            && let Some(made) = self.cached(step, &exact.key(), inputs)?
        {
            self.alias(step, (&fast, &exact))?;
            return Ok(made);
        }
        let _lock = self.engine.store.lock_step(&exact.key(), &self.stopped)?;
        // Another process may have done it while this one waited.
        if let Some(made) = self.cached(step, &exact.key(), inputs)? {
            return Ok(made);
        }
        let recipe = step.recipe;
        let lists = cause::lists(inputs, &exact);
        let made_of = Ingredients { step, parts: &exact, lists: &lists };
        if !self.has_run.swap(true, Ordering::Relaxed) && self.request.plan.context.is_none() {
            let Engine { store, registry, working_tree, .. } = self.engine;
            working_tree.begin(store, registry.git(), &self.request.context);
        }
        let activity = self.start(&made_of, inputs);
        // There is more to do for those who wait.
        call_helpers();
        let before = kiln_sandbox::thread_usage();
        let result = self.make(step, inputs, (&activity, recipe));
        if matches!(step.op, Op::File(_)) {
            activity.used(counted(&kiln_sandbox::thread_usage().since(&before)));
        }
        match &result {
            Ok(made) => {
                self.remember(&made_of, &fast, made)?;
                activity.complete(made.outcome.clone());
            }
            // Without a layer of its inputs it is put off, and done in the next attempt.
            Err(StepError::Build(BuildError::Canceled | BuildError::LostLayer { .. })) => {
                drop(activity);
            }
            Err(StepError::Failed { message, .. }) => {
                activity.complete(Outcome::Failed(message.clone()));
            }
            Err(StepError::Build(error)) => activity.complete(Outcome::Failed(error.to_string())),
        }
        let NewLayer { layer, created, outcome, .. } = result?;
        Ok(Made { snapshot: inputs.root().with_layer(layer, created), outcome })
    }

    /// Starts a step that the cache has no result of, and says why.
    fn start(&self, made_of: &Ingredients<'_>, inputs: &StepInputs) -> Running<'_> {
        let step = made_of.step;
        let (causes, compared_with) = self.explain(made_of, inputs);
        self.journal.note_start(&step.id, made_of.parts.key(), (&causes, compared_with));
        self.activities.start_step(&step.name, Some(step.id), (Some(self.line(step)), causes))
    }

    /// Keeps the result of a step under its keys, with what it was made of.
    fn remember(
        &self,
        made_of: &Ingredients<'_>,
        fast: &KeyParts,
        made: &NewLayer,
    ) -> Result<(), BuildError> {
        let NewLayer { layer, created, duration, .. } = made;
        let Ingredients { step, parts, lists } = *made_of;
        let record = CacheRecord {
            duration_ms: duration.as_millis() as u64,
            created_unix: *created as u64,
            ..record_of(layer, (step.recipe, parts.clone()), &step.name)
        };
        let cache = self.engine.store.cache_index();
        cache.record(parts.key(), &record)?;
        if parts != fast {
            cache.record(fast.key(), &record)?;
        }
        if !lists.is_empty() {
            cache.set_sources(&layer.id, &file_list::join(lists))?;
        }
        self.journal.note_content(&step.id, layer.content);
        Ok(())
    }

    /// The line of the Dockerfile that a step comes from.
    fn line(&self, step: &Step) -> usize {
        self.request.dockerfile.position(step.span.start).line
    }

    /// The result that the cache has for a key.
    fn cached(
        &self,
        step: &Step,
        key: &CacheKey,
        inputs: &StepInputs,
    ) -> Result<Option<Made>, StepError> {
        if self.cache_use(step) == CacheUse::Refresh {
            return Ok(None);
        }
        let known = self.lookup(key)?;
        let Some(record) = known.map_or_else(|| self.imported(key), |known| Ok(Some(known)))?
        else {
            return Ok(None);
        };
        let Some(layer) = self.engine.store.layers().by_id(&record.result.layer)? else {
            return Ok(None);
        };
        let activity = self.activities.start_look(&step.name, step.id, Some(self.line(step)));
        activity.complete(Outcome::Cached);
        // The record of a key by whole inputs has the parts of the exact one.
        let exact = if inputs.has_two_keys() { record.parts.key() } else { *key };
        self.journal.note_cached(&step.id, exact, layer.content);
        let created = record.created_unix as i64;
        let snapshot = inputs.root().with_layer(Arc::new(layer), created);
        Ok(Some(Made { snapshot, outcome: Outcome::Cached }))
    }

    /// What is remembered of a key.
    pub(crate) fn lookup(&self, key: &CacheKey) -> Result<Option<CacheRecord>, BuildError> {
        Ok(self.engine.store.cache_index().lookup(key)?)
    }

    /// Remembers that a key by whole inputs has the result of the key by selected files.
    fn alias(&self, step: &Step, (fast, exact): (&KeyParts, &KeyParts)) -> Result<(), StepError> {
        if let Some(record) = self.lookup(&exact.key())? {
            self.engine.store.cache_index().record(fast.key(), &record)?;
        }
        debug_assert!(!step.inputs.is_empty(), "only steps with inputs have two keys");
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}
