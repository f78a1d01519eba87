//! Steps that change files without running anything: nothing is mounted for them.
//!
//! What such a step makes follows from the indexes of the layers below and the files that it
//! takes. It is listed first; if an older layer is equal, no byte is read. Else the bytes go where
//! they are needed: into a directory if some step of the plan looks at the files, otherwise
//! straight into the blob of the output's compression, and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kiln_core::digest::{ContentId, StepId};
use kiln_core::event::Outcome;
use kiln_core::plan::{CopyOp, FileOp, Input, Link, Op, Plan, Step};
use kiln_store::layer::{Entry, EntryKind, LayerIndex, Listing, TarTimes, Tree, write_files};
use kiln_store::{Layer, WorkingLayer};
use rustix::time::ClockId;

use super::make::now;
use super::{NewLayer, Solver, StepInputs, diff, lock, unix_seconds};
use crate::error::{BuildError, StepError};
use crate::export::early::Slot;
use crate::export::image::{codec, write_blob};
use crate::op::destination::Listed;
use crate::op::file;
use crate::request::{ImageOptions, Output};
use crate::source_tree::SourceTree;

/// The steps whose results some step or output wants to look at as files.
pub(super) fn directories(plan: &Plan, outputs: &[Output]) -> BTreeSet<StepId> {
    let mut found = BTreeSet::new();
    for step in plan.steps.values() {
        let looked_at = match step.op {
            Op::Exec(_) => &step.inputs[..],
            _ => step.inputs.get(1..).unwrap_or_default(),
        };
        for input in looked_at {
            add_chain(plan, *input, &mut found);
        }
    }
    let as_files = |output: &Output| matches!(output, Output::Local { .. } | Output::Tar { .. });
    let is_dated = plan.targets.iter().any(|target| target.epoch.is_some());
    // With an epoch the blob has other times than the files: it is not all that there is.
    if is_dated || outputs.iter().any(as_files) {
        for target in &plan.targets {
            add_chain(plan, target.root, &mut found);
        }
    }
    found
}

/// The steps that a file system is made of.
fn add_chain(plan: &Plan, input: Input, found: &mut BTreeSet<StepId>) {
    let mut at = input;
    while let Input::Step(id) = at
        && found.insert(id)
    {
        at = plan.steps[&id].inputs.first().copied().unwrap_or(Input::Scratch);
    }
}

/// Whether an archive would say all that the index does: no attributes that archives leave out, no
/// names that mean something else there.
pub(crate) fn fits_archive(index: &LayerIndex) -> bool {
    let is_reserved = |entry: &Entry| {
        let name = entry.path.rsplit(|byte| *byte == b'/').next();
        name.is_some_and(|name| name.starts_with(b".wh."))
    };
    index.entries().iter().all(|entry| {
        entry.xattrs.keys().all(|name| name == b"security.capability")
            && entry.kind != EntryKind::Socket
            && !is_reserved(entry)
            && !index.is_unchanged(&entry.path)
    })
}

impl Solver<'_> {
    /// Does a step of files; `None` if it has to be done in a mounted file system, because it
    /// unpacks an archive.
    pub(super) fn list_files(
        &self,
        (step, op): (&Step, &FileOp),
        inputs: &mut StepInputs,
        recipe: [u8; 32],
    ) -> Result<Option<NewLayer>, StepError> {
        let began = Instant::now();
        if let FileOp::Copy(copy) = op
            && file::unpacks(copy, inputs.copied())?
        {
            return Ok(None);
        }
        let independent = matches!(op, FileOp::Copy(copy) if copy.link == Link::Yes);
        // What looks at nothing below needs nothing of it: it may not even be there.
        let below =
            if independent { Arc::new(Tree::default()) } else { self.index_tree(inputs.root())? };
        let listed = Listed::new(below, now(ClockId::Realtime));
        match op {
            FileOp::Copy(copy) => {
                let owner = self.copy_owner(copy, inputs)?;
                file::copy(&listed, copy, (inputs.copied(), owner))?;
            }
            FileOp::MakeDirectory { path, owner, epoch } => {
                let owner = self.directory_owner(owner, inputs)?;
                file::make_directory(&listed, path, (owner, *epoch))?;
            }
        }
        // The listing says all that is needed of them, and there may be many.
        inputs.forget_copied();
        let listing = listed.into_listing().map_err(BuildError::from)?;
        let listing = if independent {
            listing.with_implied_root()
        } else {
            self.changed_only(listing, inputs)?
        };
        let content = listing.index().content_id();
        if let Some(layer) = self.earlier((step, recipe), (content, content), began)? {
            return Ok(Some(layer));
        }
        inputs.unpack_sources(self)?;
        let mut working = self.engine.store.layers().begin()?;
        working.size_bytes = Some(listing.index().size_bytes());
        let layer = if let Some(options) = self.archive_form(step, listing.index()) {
            let slot = self.slot(step, inputs);
            self.archive((&listing, content), working, (recipe, &options), slot)?
        } else {
            write_files(&listing, &working.upper).map_err(BuildError::from)?;
            let index = listing.index().encode();
            self.engine.store.layers().commit(working, &index, content, content)?
        };
        lock(&self.indexes).insert(layer.fs.clone(), Arc::new(listing.into_index()));
        let (layer, created) = (Arc::new(layer), unix_seconds());
        let (outcome, duration) = (Outcome::Done, began.elapsed());
        Ok(Some(NewLayer { layer, created, outcome, duration }))
    }

    /// The owner that a copy gives to its files.
    pub(super) fn copy_owner(
        &self,
        copy: &CopyOp,
        inputs: &StepInputs,
    ) -> Result<Option<(u32, u32)>, StepError> {
        let is_empty = copy.link == Link::Yes || inputs.root().layers().is_empty();
        file::owner(copy, is_empty, || Ok(self.accounts(inputs.root())?))
    }

    /// The owner of what WORKDIR makes.
    fn directory_owner(
        &self,
        owner: &str,
        inputs: &StepInputs,
    ) -> Result<Option<(u32, u32)>, StepError> {
        match owner {
            "" => Ok(None),
            owner => Ok(Some(self.accounts(inputs.root())?.owner(owner))),
        }
    }

    /// What a step's result is packed with at once; `None` if it is needed as a directory.
    fn archive_form(&self, step: &Step, index: &LayerIndex) -> Option<ImageOptions> {
        if self.directories.contains(&step.id) || !fits_archive(index) {
            return None;
        }
        match self.request.outputs.first() {
            None => Some(ImageOptions::of_store()),
            Some(output) => output.form(),
        }
    }

    /// A place for this step's layer in the file that the image goes into.
    fn slot(&self, step: &Step, inputs: &StepInputs) -> Option<Slot<'_>> {
        let early = self.early_archive.as_ref().filter(|early| early.begins_with(step.id))?;
        early.slot(inputs.root().layers().len())
    }

    /// Makes a layer that is there as a blob only.
    fn archive(
        &self,
        (listing, content): (&Listing, ContentId),
        working: WorkingLayer,
        (recipe, options): ([u8; 32], &ImageOptions),
        slot: Option<Slot<'_>>,
    ) -> Result<Layer, BuildError> {
        let store = &self.engine.store;
        let (compression, codec, _) = codec(options);
        let old = store.layers().old_frames(&recipe, &codec)?;
        let how = (compression, TarTimes::Own, old);
        let is_over = || self.is_canceled();
        let packed = write_blob(store, (listing.index(), listing), how, slot, &is_over)?;
        store.layers().remember_packed(&packed.diff_id, &codec, &packed.digest)?;
        let index = listing.index().encode();
        Ok(store.layers().commit_packed(working, &index, (content, content), packed.diff_id)?)
    }

    /// Leaves out files that are below already, times included.
    fn changed_only(&self, listing: Listing, inputs: &StepInputs) -> Result<Listing, StepError> {
        let below = inputs.root_tree(self)?;
        let is_there = |listing: &Listing, below: &SourceTree| {
            let mut files = listing.index().entries().iter();
            files.any(|entry| {
                let is_file = matches!(entry.kind, EntryKind::File { .. });
                is_file && below.node(&entry.path).is_some()
            })
        };
        if inputs.root().layers().is_empty() || !is_there(&listing, &below) {
            return Ok(listing);
        }
        let (index, _) =
            diff::without_unchanged(listing.index().clone(), &below).map_err(BuildError::from)?;
        listing.narrowed(index).map_err(|error| BuildError::from(error).into())
    }
}
