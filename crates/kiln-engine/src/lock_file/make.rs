//! `kiln lock`: asks what references stand for.
//!
//! The Dockerfile is planned as for a build, so that all that its stages, arguments and platforms
//! come to is found, triggers of bases included. What is locked and not to be moved is not asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kiln_core::dockerfile::Dockerfile;
use kiln_core::lock_file::{FilePin, GitPin, ImagePin, LockFile, Upgrade};
use kiln_core::oci::Reference;
use kiln_core::plan::{Facts, ImageNeed, ImageSource, Plan, Planning, plan};
use kiln_registry::Error;

use super::{RemoteSource, remote_sources};
use crate::activity::Activities;
use crate::base_image::registry_error;
use crate::build::{find_images, read};
use crate::engine::Engine;
use crate::error::{BuildError, StepError};
use crate::history::Record;
use crate::op::download::{self, Wanted, download};
use crate::op::git;
use crate::remote_context::of_context;
use crate::request::{BuildRequest, Lock, Unlocked};
use crate::solve::Solver;
use crate::transfer::Watch;

/// How many are asked at the same time.
const AT_ONCE: usize = 8;

/// Adds to `locked` all that a build refers to. What `known` has and `upgrade` does not move stays
/// as it is there.
///
/// # Errors
/// As for [`build()`](crate::build()), as far as nothing has to run.
pub fn lock(
    engine: &Engine,
    request: &BuildRequest,
    (known, upgrade): (&LockFile, &Upgrade),
    locked: &mut LockFile,
    watch: Watch<'_>,
) -> Result<(), BuildError> {
    let _cancelling = engine.cancel_registry_with(watch.cancelled);
    let _in_use = engine.store.lock_shared(watch.cancelled)?;
    let activities = Activities::new(watch.events.clone());
    let dockerfile = read(request, &activities)?;
    let kept = Kept { known, upgrade };
    let mut work =
        Locking { engine, kept, activities: &activities, cancelled: watch.cancelled, locked };
    let plan = work.images(request, &dockerfile)?;
    work.sources(request, &plan)?;
    engine.store.flush()?;
    Ok(())
}

/// What does not have to be asked for.
#[derive(Clone, Copy)]
struct Kept<'a> {
    known: &'a LockFile,
    upgrade: &'a Upgrade,
}

impl Kept<'_> {
    fn pin<T: Clone>(
        &self,
        pins: impl Fn(&LockFile) -> &BTreeMap<String, T>,
        name: &str,
    ) -> Option<T> {
        pins(self.known).get(name).filter(|_| !self.upgrade.moves(name)).cloned()
    }
}

struct Locking<'a> {
    engine: &'a Engine,
    kept: Kept<'a>,
    activities: &'a Activities,
    cancelled: &'a Arc<AtomicBool>,
    locked: &'a mut LockFile,
}

impl Locking<'_> {
    /// Locks the images that planning asks for; gives the plan.
    fn images(
        &mut self,
        request: &BuildRequest,
        dockerfile: &Dockerfile,
    ) -> Result<Plan, BuildError> {
        let mut request = request.clone();
        let mut facts = Facts::default();
        loop {
            let planning = plan(dockerfile, &request.plan, &facts)
                .map_err(|diagnostics| BuildError::Invalid { diagnostics })?;
            let needs: Vec<ImageNeed> = match planning {
                Planning::Ready(plan) => return Ok(plan),
                Planning::Needs(needs) => needs.into_iter().collect(),
            };
            self.pin_images(&needs)?;
            // Their configs are those of what was just locked.
            request.lock = Some(Lock {
                file: self.locked.clone(),
                name: "the new lock file".to_owned(),
                unlocked: Unlocked::Refused,
                command: String::new(),
            });
            let found = find_images(self.engine, &request, &needs, self.activities);
            for (need, result) in needs.into_iter().zip(found) {
                facts.images.insert(need, result?.0);
            }
        }
    }

    fn pin_images(&mut self, needs: &[ImageNeed]) -> Result<(), BuildError> {
        let mut asked: BTreeMap<String, &Reference> = BTreeMap::new();
        for need in needs {
            let ImageSource::Reference(reference) = &need.source else { continue };
            let name = reference.familiar();
            if reference.digest.is_some() || self.locked.images.contains_key(&name) {
                continue;
            }
            match self.kept.pin(|file| &file.images, &name) {
                Some(pin) => drop(self.locked.images.insert(name, pin)),
                None => drop(asked.insert(name, reference)),
            }
        }
        let asked: Vec<(String, &Reference)> = asked.into_iter().collect();
        let pins = self.each(&asked, |(_, reference)| self.ask_image(reference))?;
        for ((name, _), pin) in asked.into_iter().zip(pins) {
            self.locked.images.insert(name, pin);
        }
        Ok(())
    }

    /// What a registry says that a name stands for now.
    fn ask_image(&self, reference: &Reference) -> Result<ImagePin, BuildError> {
        let (store, name) = (&self.engine.store, reference.to_string());
        let activity = self.activities.start(format!("[internal] load metadata for {name}"));
        let resolved = self.engine.registry.resolve(reference);
        activity.finish(&resolved);
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                let error_of_build = registry_error(Some(&reference.familiar()), &error);
                let is_local = store.images().resolve(&name)?.is_some();
                return Err(match (&error, error_of_build) {
                    (Error::Cancelled, other) => other,
                    (
                        _,
                        BuildError::Image { message, .. } | BuildError::Network { message, .. },
                    ) if is_local => {
                        let help = "it is in this machine's store alone, where others have \
                                    nothing to find: push it";
                        BuildError::Image { message, help: Some(help.to_owned()) }
                    }
                    (_, other) => other,
                });
            }
        };
        store.content().put(&resolved.bytes)?;
        let broken = |error: Error| registry_error(Some(&reference.familiar()), &error);
        let index =
            if resolved.is_index() { Some(resolved.index().map_err(broken)?) } else { None };
        Ok(ImagePin::new(resolved.descriptor.digest, index.as_ref()))
    }

    /// Locks the files and repositories of a plan.
    fn sources(&mut self, request: &BuildRequest, plan: &Plan) -> Result<(), BuildError> {
        let mut asked = Vec::new();
        for source in remote_sources(request, plan) {
            let name = source.locked_name();
            match source {
                RemoteSource::File { .. } if self.locked.files.contains_key(&name) => {}
                RemoteSource::Git(_) if self.locked.git.contains_key(&name) => {}
                RemoteSource::File { .. } => match self.kept.pin(|file| &file.files, &name) {
                    Some(pin) => drop(self.locked.files.insert(name, pin)),
                    None => asked.push(source),
                },
                RemoteSource::Git(_) => match self.kept.pin(|file| &file.git, &name) {
                    Some(pin) => drop(self.locked.git.insert(name, pin)),
                    None => asked.push(source),
                },
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let nothing = Plan::default();
        let shared = (self.activities, Arc::clone(self.cancelled));
        // It never ends: nothing is kept.
        let record = Record::begin(request);
        let what = (self.engine, request, record.part(0));
        let solver = Solver::new(what, &nothing, BTreeMap::new(), shared, Instant::now());
        let pins =
            self.each(&asked, |source| self.ask_source(&solver, source).map_err(of_context))?;
        for (source, pin) in asked.iter().zip(pins) {
            let name = source.locked_name();
            match pin {
                SourcePin::File(pin) => drop(self.locked.files.insert(name, pin)),
                SourcePin::Git(pin) => drop(self.locked.git.insert(name, pin)),
            }
        }
        Ok(())
    }

    fn ask_source(
        &self,
        solver: &Solver<'_>,
        source: &RemoteSource<'_>,
    ) -> Result<SourcePin, StepError> {
        match source {
            RemoteSource::File { url, name } => {
                let wanted = Wanted { url, name, checksum: None, lock: None };
                let title = format!("[internal] download {}", source.locked_name());
                let activity = self.activities.start(title);
                let result = download(solver, wanted, &activity);
                activity.finish(&result);
                result?;
                let digest = download::known(solver, &wanted)?.digest;
                let digest = digest.expect("a file that was downloaded has a digest");
                Ok(SourcePin::File(FilePin { digest }))
            }
            RemoteSource::Git(git) => {
                let title = format!("[internal] load git reference {}", source.locked_name());
                let activity = self.activities.start(title);
                let result = git::look_up(solver, git);
                activity.finish(&result);
                let found = result?;
                Ok(SourcePin::Git(match found.tagged {
                    Some(commit) => {
                        GitPin { reference: found.name, commit, tag: Some(found.object) }
                    }
                    None => GitPin { reference: found.name, commit: found.object, tag: None },
                }))
            }
        }
    }

    /// Does something with each item, several at a time; gives what came of them in their order.
    fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        ask: impl Fn(&T) -> Result<R, BuildError> + Sync,
    ) -> Result<Vec<R>, BuildError> {
        let mut results = Vec::new();
        for some in items.chunks(AT_ONCE) {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(BuildError::Canceled);
            }
            let asked: Vec<Result<R, BuildError>> = std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|item| scope.spawn(|| ask(item))).collect();
                let joined = threads.into_iter().map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                joined.collect()
            });
            for result in asked {
                results.push(result?);
            }
        }
        Ok(results)
    }
}

/// What a source is locked to.
enum SourcePin {
    File(FilePin),
    Git(GitPin),
}
