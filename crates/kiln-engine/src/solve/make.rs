//! Doing a step: its files, and the layer that they become.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_core::digest::ContentId;
use kiln_core::event::Outcome;
use kiln_core::plan::{FileOp, Link, Op, Step};
use kiln_store::Layer;
use kiln_store::layer::{EntryKind, LayerIndex, Timestamp, scan};
use rustix::time::ClockId;

use super::{Solver, StepInputs, diff, lock, unix_seconds};
use crate::activity::Running;
use crate::error::{BuildError, FileContext, StepError};
use crate::op::exec;
use crate::op::file::{self, Target};
use crate::request::CacheUse;
use crate::source_tree::as_path;

/// A layer that a step made, or an older one that is equal.
pub(super) struct NewLayer {
    pub(super) layer: Arc<Layer>,
    pub(super) created: i64,
    pub(super) outcome: Outcome,
    pub(super) duration: Duration,
}

impl Solver<'_> {
    /// Does the work of a step: a new layer, or an older one that is equal.
    pub(super) fn make(
        &self,
        step: &Step,
        inputs: &mut StepInputs,
        (activity, recipe): (&Running<'_>, [u8; 32]),
    ) -> Result<NewLayer, StepError> {
        if let Op::File(op) = &step.op
            && let Some(layer) = self.list_files((step, op), inputs, recipe)?
        {
            return Ok(layer);
        }
        let began = Instant::now();
        let window_start = now(ClockId::RealtimeCoarse);
        let independent =
            matches!(&step.op, Op::File(FileOp::Copy(copy)) if copy.link == Link::Yes);
        let below = if independent { Vec::new() } else { self.layer_dirs(inputs.root())? };
        let lowers: Vec<PathBuf> = below.into_iter().rev().collect();
        let mut working = self.engine.store.layers().begin()?;
        if !independent && let Some((_, position)) = self.index_tree(inputs.root())?.lookup(b"") {
            let layer = self.files(&inputs.root().layers()[position])?;
            adopt_root(&working.upper, &layer.fs)?;
        }
        let target = Target { lowers: &lowers, upper: &working.upper, work: &working.work };
        match &step.op {
            Op::Exec(exec) => exec::run(self, exec, (&target, inputs), activity)?,
            Op::File(FileOp::Copy(copy)) => {
                let owner = self.copy_owner(copy, inputs)?;
                inputs.unpack_sources(self)?;
                file::copy_and_unpack(&target, copy, (inputs.copied(), owner))?;
            }
            Op::File(FileOp::MakeDirectory { .. }) | Op::Source(_) => {
                unreachable!("sources make no layers, and a directory is always listed")
            }
        }
        let mut index = scan(&working.upper)?;
        if independent {
            index = index.with_implied_root();
        } else {
            index = self.drop_unchanged(index, inputs, &working.upper)?;
        }
        // Times that a command set on purpose are part of what it made; those of now are not.
        let window = matches!(step.op, Op::Exec(_)).then(|| (window_start, now(ClockId::Realtime)));
        let content = index.content_id();
        let times = match window {
            Some(window) => index.times_digest(Some(window)),
            None => content,
        };
        if let Some(layer) = self.earlier((step, recipe), (content, times), began)? {
            return Ok(layer);
        }
        working.size_bytes = Some(index.size_bytes());
        let layers = self.engine.store.layers();
        let layer = Arc::new(layers.commit(working, &index.encode(), content, times)?);
        lock(&self.indexes).insert(layer.fs.clone(), Arc::new(index));
        let (outcome, duration) = (Outcome::Done, began.elapsed());
        Ok(NewLayer { layer, created: unix_seconds(), outcome, duration })
    }

    /// The older layer of the same instruction with the same content and times.
    pub(super) fn earlier(
        &self,
        (step, recipe): (&Step, [u8; 32]),
        (content, times): (ContentId, ContentId),
        began: Instant,
    ) -> Result<Option<NewLayer>, StepError> {
        if self.cache_use(step) == CacheUse::Refresh {
            return Ok(None);
        }
        let store = &self.engine.store;
        let Some((id, created)) =
            store.cache_index().layer_with_content(&recipe, &content, &times)?
        else {
            return Ok(None);
        };
        let Some(layer) = store.layers().by_id(&id)? else { return Ok(None) };
        let (layer, created) = (Arc::new(layer), created as i64);
        let (outcome, duration) = (Outcome::Unchanged, began.elapsed());
        Ok(Some(NewLayer { layer, created, outcome, duration }))
    }

    /// Overlayfs copies a file up when it is opened for writing, linked, or given the attributes
    /// that it has: such a file is no part of what the step made.
    fn drop_unchanged(
        &self,
        index: LayerIndex,
        inputs: &StepInputs,
        upper: &Path,
    ) -> Result<LayerIndex, StepError> {
        let has_files = index.entries().iter().any(|e| matches!(e.kind, EntryKind::File { .. }));
        if !has_files || inputs.root().layers().is_empty() {
            return Ok(index);
        }
        let below = inputs.root_tree(self)?;
        let (index, unchanged) = diff::without_unchanged(index, &below)?;
        for path in unchanged {
            let path = upper.join(as_path(&path));
            std::fs::remove_file(&path).at("remove", &path)?;
        }
        Ok(index)
    }
}

/// Gives an upper directory the owner of the root below, which is that of the layer in `top`:
/// overlayfs takes it from the upper directory alone. Its mode is 0755 whatever the layers say (as
/// in BuildKit's snapshots).
pub(crate) fn adopt_root(upper: &Path, top: &Path) -> Result<(), BuildError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(top).at("read", top)?;
    std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid()))
        .at("change the owner of", upper)
}

/// The time now. The kernel dates files by its coarse clock, which is behind, and by the fine one
/// when somebody looked at them just before: a time span begins with the one, ends with the other.
pub(super) fn now(clock: ClockId) -> Timestamp {
    let time = rustix::time::clock_gettime(clock);
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec as u32 }
}
