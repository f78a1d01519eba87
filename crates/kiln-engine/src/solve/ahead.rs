//! Fetching base images ahead of need.
//!
//! When a step has to run, what stands on it will run, too, most likely: the images that those
//! steps look into come while it runs, and so do the blobs that an output holds. A build of which
//! every step is cached asks for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kiln_core::digest::{BlobDigest, StepId};
use kiln_core::plan::{FileOp, Input, Link, Op, Plan, SourceOp, Step};

use super::{Solver, lock};
use crate::base_image::{BaseImage, Fetcher, Want};
use crate::request::Output;

/// Images that are fetched ahead. Dropping it ends what nobody needs any more.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Steps that ran, and those that stand on them.
    seen: Mutex<BTreeSet<StepId>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    over: Arc<AtomicBool>,
}

impl Ahead {
    /// Nothing more is needed.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop();
        for thread in lock(&self.threads).drain(..) {
            // A panic there has been told there.
            let _ = thread.join();
        }
    }
}

impl Solver<'_> {
    /// Begins to fetch what a step that has to run, and those that stand on it, look into.
    pub(super) fn fetch_ahead(&self, step: &Step) {
        if self.images.is_empty() {
            return;
        }
        let mut steps = Vec::new();
        {
            let mut seen = lock(&self.ahead.seen);
            let mut pending = vec![step];
            while let Some(step) = pending.pop() {
                if seen.insert(step.id) {
                    steps.push(step);
                    pending.extend(super::schedule::dependents(self.plan, step.id));
                }
            }
        }
        let mut wanted: Vec<(&Arc<BaseImage>, Want)> = Vec::new();
        for step in steps {
            let images = looked_into(self.plan, step).filter_map(|image| self.images.get(&image));
            wanted.extend(images.map(|image| (image, image.want())));
        }
        if self.request.outputs.iter().any(Output::needs_bytes) {
            let roots = self.plan.targets.iter().map(|target| target.root);
            let images = roots.filter_map(|root| image_below(self.plan, root));
            let images = images.filter_map(|image| self.images.get(&image));
            wanted.extend(images.map(|image| (image, Want::Blobs)));
        }
        let mut begun: Vec<&Arc<BaseImage>> = Vec::new();
        for (image, want) in wanted {
            // The first is what it is looked into for, and brings the blobs as well.
            let is_begun = begun.iter().any(|begun| Arc::ptr_eq(begun, image));
            begun.push(image);
            if is_begun || !image.is_missing(&self.engine.store, want).unwrap_or(false) {
                continue;
            }
            let image = Arc::clone(image);
            let stopped = Arc::clone(&self.ahead.over);
            let fetcher = Fetcher { stopped, ..self.fetcher.clone() };
            let fetch = std::thread::spawn(move || image.bring_ahead(&fetcher, want));
            lock(&self.ahead.threads).push(fetch);
        }
    }
}

/// The image that a file system stands on.
fn image_below(plan: &Plan, input: Input) -> Option<BlobDigest> {
    let mut at = input;
    while let Input::Step(id) = at {
        let step = &plan.steps[&id];
        if let Op::Source(source) = &step.op {
            return match source {
                SourceOp::Image { manifest, .. } => Some(*manifest),
                _ => None,
            };
        }
        at = step.inputs.first().copied().unwrap_or(Input::Scratch);
    }
    None
}

/// The images that a step looks into when it runs, that which it works over first.
fn looked_into<'a>(plan: &'a Plan, step: &'a Step) -> impl Iterator<Item = BlobDigest> + 'a {
    let skipped = match &step.op {
        Op::File(FileOp::Copy(copy)) if copy.link == Link::Yes => 1,
        Op::Source(_) => step.inputs.len(),
        _ => 0,
    };
    step.inputs.iter().skip(skipped).filter_map(|input| image_below(plan, *input))
}
