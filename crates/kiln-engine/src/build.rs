//! The story of a build: read this file first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::BlobDigest;
use kiln_core::dockerfile::{Dockerfile, parse};
use kiln_core::event::EventSink;
use kiln_core::plan::{Facts, ImageNeed, ImageSource, Plan, Planning, plan};

use crate::activity::Activities;
use crate::base_image::{self, BaseImage, Fetcher, Search, Want};
use crate::cache::{self, Imports};
use crate::engine::Engine;
use crate::error::BuildError;
use crate::history::{Record, Recorded};
use crate::lock_file;
use crate::outputs::{self, export};
use crate::request::BuildRequest;
use crate::result::{BuildResult, TargetResult};
use crate::solve::{Solver, solve};
use crate::transfer::Watch;

/// Base images by the digest of their manifest.
type Images = BTreeMap<BlobDigest, Arc<BaseImage>>;

/// Builds what a request asks for.
///
/// Everything that a user may want to see while it runs goes to `events`; setting `cancelled`
/// ends it soon, with all commands ended and the store whole.
///
/// # Errors
/// See [`BuildError`]; the first failure ends the build.
pub fn build(
    engine: &Engine,
    request: &BuildRequest,
    events: &EventSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<BuildResult, BuildError> {
    let start = Instant::now();
    let record = Record::begin(request);
    let result = build_part(engine, (request, record.part(0)), events, cancelled);
    let duration = start.elapsed();
    record.end(engine, duration, result.as_deref());
    Ok(BuildResult { targets: result?, duration })
}

/// The same for a build that is recorded elsewhere, or a part of one.
pub(crate) fn build_part(
    engine: &Engine,
    part: (&BuildRequest, Recorded<'_>),
    events: &EventSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<Vec<TargetResult>, BuildError> {
    let _cancelling = engine.cancel_registry_with(cancelled);
    let _in_use = engine.store.lock_shared(cancelled)?;
    // An unchanged build only looks things up.
    engine.store.hold_reads()?;
    engine.forget_lost(build_targets(engine, part, events, cancelled))
}

/// The same, while others keep watch.
fn build_targets(
    engine: &Engine,
    (request, record): (&BuildRequest, Recorded<'_>),
    events: &EventSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<Vec<TargetResult>, BuildError> {
    let start = Instant::now();
    let activities = Activities::new(events.clone());
    let mut imports = Imports::begin(engine, &request.cache_from, (&activities, cancelled));
    let dockerfile = read(request, &activities)?;
    let (plan, images) = make_plan(engine, request, &dockerfile, (&activities, cancelled))?;
    lock_file::check_plan(request, &plan, &activities)?;
    outputs::check(&plan, request)?;
    for warning in &plan.warnings {
        activities.warn(&warning.message);
    }
    // Another attempt follows when a layer of a shared cache turns out to be lost.
    loop {
        let parts = (&plan, images.clone(), std::mem::take(&mut imports), start);
        let (result, rest) = attempt(engine, (request, record), parts, (&activities, cancelled));
        match result {
            Err(BuildError::LostLayer { digest, message, .. })
                if rest.lose(digest) && engine.store.layers().forget_archive(&digest)? =>
            {
                activities.warn(format!("{message}; what makes it runs again"));
                imports = rest;
            }
            result => return result,
        }
    }
}

/// Brings the base images of a build into the store, unpacked, and builds nothing.
///
/// # Errors
/// As for [`build()`], as far as nothing has to run.
pub fn fetch_bases(
    engine: &Engine,
    request: &BuildRequest,
    watch: Watch<'_>,
) -> Result<(), BuildError> {
    let _cancelling = engine.cancel_registry_with(watch.cancelled);
    let _in_use = engine.store.lock_shared(watch.cancelled)?;
    let activities = Activities::new(watch.events.clone());
    let dockerfile = read(request, &activities)?;
    let (_, images) = make_plan(engine, request, &dockerfile, (&activities, watch.cancelled))?;
    let fetcher = Fetcher::new(engine, &activities, Arc::clone(watch.cancelled));
    for image in images.values() {
        image.bring(&fetcher, Want::Files)?;
    }
    Ok(engine.store.flush()?)
}

/// What an attempt builds with.
type Parts<'a> = (&'a Plan, Images, Imports, Instant);

/// Solves and exports; gives the imports back, for the next attempt.
fn attempt(
    engine: &Engine,
    (request, record): (&BuildRequest, Recorded<'_>),
    (plan, images, imports, start): Parts<'_>,
    (activities, cancelled): (&Activities, &Arc<AtomicBool>),
) -> (Result<Vec<TargetResult>, BuildError>, Imports) {
    let watch = (activities, Arc::clone(cancelled));
    let mut solver = Solver::new((engine, request, record), plan, images, watch, start);
    solver.imports = imports;
    let result = solve_and_export(&solver);
    if !matches!(result, Err(BuildError::LostLayer { .. })) {
        record.note(solver.journal.reports(&activities.timeline()));
    }
    (result, std::mem::take(&mut solver.imports))
}

fn solve_and_export(solver: &Solver<'_>) -> Result<Vec<TargetResult>, BuildError> {
    let solved = solve(solver);
    // What was hashed stays known even when a step failed.
    for context in solver.read_contexts() {
        context.save_index()?;
    }
    let results = solved?;
    let targets = export(solver, &results)?;
    cache::export(solver, &results)?;
    solver.engine.store.flush()?;
    Ok(targets)
}

/// Parses the Dockerfile; warnings are shown, errors end the build.
pub(crate) fn read(
    request: &BuildRequest,
    activities: &Activities,
) -> Result<Dockerfile, BuildError> {
    let (dockerfile, diagnostics) = parse(&request.dockerfile);
    let (errors, warnings): (Vec<Diagnostic>, Vec<Diagnostic>) =
        diagnostics.into_iter().partition(Diagnostic::is_error);
    // What a rule of style says, is said with the other rules.
    let is_rule = |warning: &Diagnostic| kiln_core::lint::rule(warning.code).is_some();
    for warning in warnings.into_iter().filter(|warning| !is_rule(warning)) {
        activities.warn(warning.message);
    }
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    Err(BuildError::Invalid { diagnostics: errors })
}

/// Plans, and finds the images that the plan asks for, until it asks for no more.
fn make_plan(
    engine: &Engine,
    request: &BuildRequest,
    dockerfile: &Dockerfile,
    (activities, cancelled): (&Activities, &AtomicBool),
) -> Result<(Plan, Images), BuildError> {
    let mut facts = Facts::default();
    let mut images = Images::new();
    loop {
        let planning = plan(dockerfile, &request.plan, &facts)
            .map_err(|diagnostics| BuildError::Invalid { diagnostics })?;
        let needs = match planning {
            Planning::Ready(plan) => return Ok((plan, images)),
            Planning::Needs(needs) => needs,
        };
        if cancelled.load(Ordering::Relaxed) {
            return Err(BuildError::Canceled);
        }
        let needs: Vec<ImageNeed> = needs.into_iter().collect();
        lock_file::check_images(request, &needs, activities)?;
        let found = find_images(engine, request, &needs, activities);
        for (need, result) in needs.into_iter().zip(found) {
            let (fact, image) = result?;
            images.insert(fact.manifest, image);
            facts.images.insert(need, fact);
        }
    }
}

pub(crate) type Found = Result<(kiln_core::plan::ImageFact, Arc<BaseImage>), BuildError>;

/// Looks all needed images up at the same time: each may cost a round trip to a registry.
pub(crate) fn find_images(
    engine: &Engine,
    request: &BuildRequest,
    needs: &[ImageNeed],
    activities: &Activities,
) -> Vec<Found> {
    let find = |need: &ImageNeed| {
        let context = match &need.source {
            ImageSource::Layout { context } => request.named_contexts.get(context),
            ImageSource::Reference(_) => None,
        };
        let pinned = lock_file::pinned(request, need);
        let search = Search { context, pinned, pull: request.pull };
        let found = base_image::resolve(engine, need, search, activities);
        found.map_err(|error| match pinned {
            Some(digest) => lock_file::explain(request, need, digest, error),
            None => error,
        })
    };
    let may_wait = |need: &&ImageNeed| matches!(need.source, ImageSource::Reference(_));
    match needs.iter().filter(may_wait).count() {
        0 | 1 => needs.iter().map(find).collect(),
        _ => std::thread::scope(|scope| {
            let threads: Vec<_> = needs.iter().map(|need| scope.spawn(|| find(need))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        }),
    }
}
