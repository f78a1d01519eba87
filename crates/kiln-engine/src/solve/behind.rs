//! Work behind the next step: layers that an output will need as blobs are packed while what
//! follows runs.
//!
//! It is a head start and no more: an output packs what is missing, and tells the errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kiln_core::digest::StepId;
use kiln_core::event::Outcome;
use kiln_store::Layer;

use super::{Solved, Solver};
use crate::export::image::{layer_epoch, pack_layer};
use crate::outputs::chain;
use crate::request::{ImageOptions, Output};
use crate::snapshot::SnapshotLayer;

/// A layer to pack.
#[derive(Debug)]
pub(super) struct PackJob {
    layer: Arc<Layer>,
    /// Its position in the image.
    position: usize,
    options: ImageOptions,
    epoch: Option<i64>,
}

/// Which layers the outputs will need as blobs.
#[derive(Debug)]
pub(super) struct Behind {
    /// How each output wants them.
    forms: Vec<ImageOptions>,
    /// Epochs of the targets that a step's layer is part of.
    exported: BTreeMap<StepId, BTreeSet<Option<i64>>>,
}

impl Behind {
    /// What the outputs of a build will need.
    pub(super) fn of(solver: &Solver<'_>) -> Self {
        let outputs = &solver.request.outputs;
        let mut forms: Vec<ImageOptions> = outputs.iter().filter_map(Output::form).collect();
        if outputs.is_empty() {
            forms.push(ImageOptions::of_store());
        }
        let mut exported: BTreeMap<StepId, BTreeSet<Option<i64>>> = BTreeMap::new();
        for target in &solver.plan.targets {
            for step in chain(solver.plan, target.root) {
                exported.entry(step).or_default().insert(target.epoch);
            }
        }
        Self { forms, exported }
    }

    /// What there is to pack after a step. A layer that the cache had was packed when it was made.
    pub(super) fn jobs(&self, step: StepId, solved: &Solved, outcome: &Outcome) -> Vec<PackJob> {
        let (Outcome::Done, Solved::Snapshot(snapshot)) = (outcome, solved) else {
            return Vec::new();
        };
        let Some(SnapshotLayer::Built { layer, .. }) = snapshot.layers().last() else {
            return Vec::new();
        };
        let epochs = self.exported.get(&step).into_iter().flatten();
        let forms = epochs.flat_map(|epoch| self.forms.iter().map(move |form| (epoch, form)));
        forms
            .map(|(epoch, form)| PackJob {
                layer: Arc::clone(layer),
                position: snapshot.layers().len() - 1,
                options: form.clone(),
                epoch: layer_epoch(form, *epoch),
            })
            .collect()
    }
}

impl PackJob {
    /// Packs the layer, unless the build ends before. Who needs the blob does it again if this
    /// fails, and tells why.
    pub(super) fn run(&self, solver: &Solver<'_>) {
        let is_over = || solver.is_canceled() || solver.stopped.load(Ordering::Relaxed);
        let form = (&self.options, self.epoch);
        let _ = pack_layer(solver, &self.layer, form, Some(self.position), &is_over);
    }
}
