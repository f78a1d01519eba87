//! Several builds at once: the targets of a bake file, some of which stand on the results of others.
//!
//! Each target is a request with a plan of its own, since Dockerfiles, contexts and secrets differ. They run side by
//! side over one store: a step that several of them have is locked by its key, so that one does it and
//! the others find its result. A target begins when those are done whose results are its contexts.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kiln_core::event::EventSink;
use kiln_core::oci::Descriptor;
use kiln_core::plan::ContextKind;

use crate::build::build_part;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::history::Record;
use crate::request::{BuildRequest, ImageOptions, ImageTarget, NamedContext, Output};
use crate::result::{BuildResult, TargetResult};

/// Targets that are built at the same time on the smallest machine: many wait for the network.
const LEAST_PARALLEL: usize = 4;

/// One target of several.
#[derive(Clone, Debug)]
pub struct BakeTarget {
    /// Its name, which progress and results have.
    pub name: String,
    /// What is built. It has one target of its Dockerfile.
    pub request: BuildRequest,
    /// Named contexts that are results of other targets: their normalised names, and whose.
    pub links: BTreeMap<String, String>,
}

/// What is known while targets are built.
#[derive(Debug, Default)]
struct State {
    /// Indexes of targets that have not begun.
    waiting: Vec<usize>,
    /// What is done.
    results: BTreeMap<usize, TargetResult>,
    /// The first failure, and whose.
    failed: Option<(usize, BuildError)>,
}

struct Baking<'a> {
    engine: &'a Engine,
    targets: &'a [BakeTarget],
    record: &'a Record<'a>,
    events: &'a EventSink,
    cancelled: &'a Arc<AtomicBool>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Builds targets, each once; results come in the order of the targets, under their names. The first
/// failure ends all. In the history they are one build, of the file that names them.
///
/// # Errors
/// The first failure, with the index of its target. Links have no circles and name targets of the list.
pub fn bake(
    engine: &Engine,
    (targets, file): (&[BakeTarget], &str),
    events: &EventSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<BuildResult, (usize, BuildError)> {
    let start = Instant::now();
    let state = State { waiting: (0..targets.len()).collect(), ..State::default() };
    let record = Record::begin_bake(targets, file);
    let (state, changed) = (Mutex::new(state), Condvar::new());
    let baking = Baking { engine, targets, record: &record, events, cancelled, state, changed };
    let cores = std::thread::available_parallelism().map_or(LEAST_PARALLEL, NonZero::get);
    match targets.len().min(cores.max(LEAST_PARALLEL)) {
        0 | 1 => baking.work(),
        workers => std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| baking.work());
            }
        }),
    }
    let state = baking.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let duration = start.elapsed();
    let targets: Vec<TargetResult> = state.results.into_values().collect();
    let failed = state.failed.as_ref().map(|(_, error)| error);
    record.end(engine, duration, failed.map_or(Ok(&targets), Err));
    match state.failed {
        Some(failed) => Err(failed),
        None => Ok(BuildResult { targets, duration }),
    }
}

impl Baking<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds one target after the other, until none is left.
    fn work(&self) {
        while let Some((index, request)) = self.next() {
            let target = &self.targets[index];
            let whose = (self.targets.len() > 1).then_some(target.name.as_str());
            let events = self.events.of(whose);
            let part = (&request, self.record.part(index));
            let result = build_part(self.engine, part, &events, self.cancelled);
            let mut state = self.state();
            match result {
                Ok(mut results) => {
                    if let Some(mut built) = results.pop() {
                        built.name.clone_from(&target.name);
                        state.results.insert(index, built);
                    }
                }
                Err(error) => {
                    // The others end because of this one.
                    self.cancelled.store(true, Ordering::SeqCst);
                    state.failed.get_or_insert((index, error));
                }
            }
            self.changed.notify_all();
        }
    }

    /// Waits for a target that can begin; `None` when there is none any more.
    fn next(&self) -> Option<(usize, BuildRequest)> {
        let mut state = self.state();
        loop {
            if state.failed.is_some() || state.waiting.is_empty() {
                return None;
            }
            let can_begin = |index: &usize| {
                self.targets[*index].links.values().all(|name| self.result(&state, name).is_some())
            };
            if let Some(position) = state.waiting.iter().position(can_begin) {
                let index = state.waiting.remove(position);
                return Some((index, self.request(&state, index)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn result<'s>(&self, state: &'s State, name: &str) -> Option<&'s TargetResult> {
        let index = self.targets.iter().position(|target| target.name == name)?;
        state.results.get(&index)
    }

    /// The request of a target, with the results of others as its contexts.
    fn request(&self, state: &State, index: usize) -> BuildRequest {
        let target = &self.targets[index];
        let mut request = target.request.clone();
        for (context, name) in &target.links {
            let result = self.result(state, name).expect("what it stands on is done");
            let descriptor: Option<&Descriptor> = result.descriptor.as_ref();
            let place = descriptor.map_or(NamedContext::Empty, |descriptor| {
                NamedContext::Stored(Box::new(descriptor.clone()))
            });
            let kind = if descriptor.is_some() { ContextKind::Layout } else { ContextKind::Empty };
            request.plan.named_contexts.insert(context.clone(), kind);
            request.named_contexts.insert(context.clone(), place);
        }
        let is_needed =
            self.targets.iter().any(|other| other.links.values().any(|name| *name == target.name));
        let is_stored = |output: &Output| match output {
            Output::Image { to, .. } => to.is_stored(),
            _ => false,
        };
        // Others find it in the store.
        if is_needed && !request.outputs.is_empty() && !request.outputs.iter().any(is_stored) {
            let (options, to) = (ImageOptions::default(), ImageTarget::Store);
            request.outputs.insert(0, Output::Image { options, to });
        }
        request
    }
}
