//! The OCI file of a build, begun while its steps still run.
//!
//! Layers come first in the file, lowest first, and those below the first step that runs are known
//! long before the image is. They are copied while commands run; a layer that is packed, behind its step
//! or by it, goes into the store and into the file at once. So neither an edit of a line nor a first
//! build ends with a copy of the whole image.
//!
//! It is a head start and no more: what was written has to be what the archive begins with, else the
//! file is written from its beginning; and whatever goes wrong here is found, and told, there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, TryLockError};

use kiln_core::digest::{BlobDigest, StepId};
use kiln_core::oci::Descriptor;
use kiln_core::plan::{Input, Plan};

use super::archive::{BLOCK_BYTES, Member};
use super::files::beside;
use super::image::{codec, copy_blob, layer_epoch, packed_before};
use super::oci::first_members;
use crate::error::BuildError;
use crate::outputs::chain;
use crate::request::{
    BaseCompression, BuildRequest, Destination, ImageOptions, LayerCompression, Output,
};
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::{Solver, lock};

/// The file of the only output of a build's only image.
#[derive(Debug)]
pub(crate) struct EarlyArchive {
    temporary: PathBuf,
    options: ImageOptions,
    epoch: Option<i64>,
    /// Steps whose snapshots the file begins with.
    steps: BTreeSet<StepId>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nothing is written yet.
    Unbegun,
    /// So much is.
    Begun(Beginning),
    /// It goes on elsewhere, or could not be written.
    Over,
}

/// The beginning of the file.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Open at its end.
    pub(super) file: File,
    /// Where it is.
    pub(super) temporary: PathBuf,
    /// What it holds.
    pub(super) members: Vec<Member>,
    /// Of the image's layers, the lowest so many are there.
    layers: usize,
}

impl EarlyArchive {
    /// `None` if the outputs are others, or what layers will look like is known only at the end.
    pub(crate) fn of(plan: &Plan, request: &BuildRequest) -> Option<Self> {
        let ([target], [output]) = (plan.targets.as_slice(), request.outputs.as_slice()) else {
            return None;
        };
        let (Output::Oci { dest: Destination::File(path), options }
        | Output::Docker { dest: Destination::File(path), options }) = output
        else {
            return None;
        };
        let is_special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let is_late = options.compression == LayerCompression::Estargz
            || options.force == BaseCompression::Forced;
        if is_special || is_late {
            return None;
        }
        let above = chain(plan, target.root);
        let lowest = above.last().map_or(target.root, |step| plan.steps[step].inputs[0]);
        let mut steps: BTreeSet<StepId> = above.into_iter().collect();
        if let Input::Step(base) = lowest {
            steps.insert(base);
        }
        Some(Self {
            temporary: beside(path),
            options: options.clone(),
            epoch: layer_epoch(options, target.epoch),
            steps,
            state: Mutex::new(State::Unbegun),
        })
    }

    /// Whether the file begins with the layers of this step's snapshot.
    pub(crate) fn begins_with(&self, step: StepId) -> bool {
        self.steps.contains(&step)
    }

    /// Copies the layers of this snapshot that are packed already, from the lowest on. The file
    /// [`begins_with`](Self::begins_with) them.
    pub(crate) fn advance(&self, solver: &Solver<'_>, snapshot: &Snapshot) {
        let mut state = lock(&self.state);
        let Some(beginning) = self.begun(&mut state) else { return };
        let copied = snapshot.layers()[beginning.layers.min(snapshot.layers().len())..]
            .iter()
            .map_while(|layer| self.packed(solver, layer))
            .take_while(|_| !solver.is_stopped())
            .try_for_each(|descriptor| beginning.copy(solver, &descriptor));
        if copied.is_err() {
            self.give_up(&mut state);
        }
    }

    /// A place for the layer at this position of the image, which is about to be packed; `None`
    /// when those below it are not there yet.
    pub(crate) fn slot(&self, position: usize) -> Option<Slot<'_>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The layers below are on their way.
            Err(TryLockError::WouldBlock) => return None,
        };
        let beginning = self.begun(&mut state)?;
        if beginning.layers != position {
            return None;
        }
        let begun = beginning.file.stream_position().and_then(|start| {
            // The header follows when the digest is known.
            beginning.file.write_all(&[0; BLOCK_BYTES as usize])?;
            Ok((start, beginning.file.try_clone()?))
        });
        let Ok((start, file)) = begun else {
            self.give_up(&mut state);
            return None;
        };
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        Some(Slot { early: self, state, start: Some(start), out: Some(out) })
    }

    /// What was written, if an archive of these members begins with it.
    pub(super) fn take(&self, members: &[Member]) -> Option<Beginning> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Over) {
            State::Begun(beginning) if members.starts_with(&beginning.members) => Some(beginning),
            State::Begun(_) => {
                let _ = std::fs::remove_file(&self.temporary);
                None
            }
            State::Unbegun | State::Over => None,
        }
    }

    /// The beginning, which is made when it is asked for first.
    fn begun<'a>(&self, state: &'a mut State) -> Option<&'a mut Beginning> {
        if let State::Unbegun = state {
            *state = Beginning::new(&self.temporary).map_or(State::Over, State::Begun);
        }
        match state {
            State::Begun(beginning) => Some(beginning),
            State::Unbegun | State::Over => None,
        }
    }

    fn give_up(&self, state: &mut State) {
        *state = State::Over;
        let _ = std::fs::remove_file(&self.temporary);
    }

    /// The blob of a layer, if the store has it.
    fn packed(&self, solver: &Solver<'_>, layer: &SnapshotLayer) -> Option<Descriptor> {
        let store = &solver.engine.store;
        let (digest, size) = match layer {
            SnapshotLayer::Base { image, position } => {
                let descriptor = &image.layers[*position];
                (descriptor.digest, descriptor.size)
            }
            SnapshotLayer::Built { layer, .. } => {
                let (_, name, _) = codec(&self.options);
                let (_, digest, size) = packed_before(store, layer, (self.epoch, &name)).ok()??;
                (digest, size)
            }
        };
        let is_here = store.content().size(&digest).ok().flatten() == Some(size);
        is_here.then(|| Descriptor::new("", digest, size))
    }
}

impl Drop for EarlyArchive {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let State::Begun(_) = state {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

const BUFFER_BYTES: usize = 256 << 10;

impl Beginning {
    fn new(temporary: &Path) -> io::Result<Self> {
        let mut file = File::create(temporary)?;
        let members = first_members();
        for member in &members {
            file.write_all(&member.header())?;
        }
        Ok(Self { file, temporary: temporary.to_owned(), members, layers: 0 })
    }

    /// Adds a layer that the store has packed. The same blob again is in it once.
    fn copy(&mut self, solver: &Solver<'_>, descriptor: &Descriptor) -> Result<(), BuildError> {
        let member = Member::blob(descriptor.clone());
        if !self.members.contains(&member) {
            let Self { file, temporary, .. } = self;
            member.write(file, temporary, |out| copy_blob(solver, descriptor, (out, temporary)))?;
            self.members.push(member);
        }
        self.layers += 1;
        Ok(())
    }
}

/// Where the blob of a layer goes while it is made. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    early: &'a EarlyArchive,
    state: MutexGuard<'a, State>,
    /// Where its header goes; nothing once it is to stay.
    start: Option<u64>,
    /// Nothing once writing failed.
    out: Option<BufWriter<File>>,
}

impl Slot<'_> {
    /// Writes more of the blob; that it can't be written here is no failure.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let written = self.out.as_mut().map(|out| out.write_all(bytes));
        if matches!(written, Some(Err(_))) {
            self.out = None;
        }
    }

    /// The blob is whole, and this is what it is.
    pub(super) fn finish(mut self, digest: BlobDigest, size_bytes: u64) {
        let member = Member::blob(Descriptor::new("", digest, size_bytes));
        let Some(Ok(file)) = self.out.take().map(BufWriter::into_inner) else { return };
        let (State::Begun(beginning), Some(start)) = (&mut *self.state, self.start) else { return };
        // Of a blob that is there already, nothing stays.
        let is_new = !beginning.members.contains(&member);
        if is_new {
            let ended = (&file).write_all(member.padding());
            if ended.and_then(|()| file.write_all_at(&member.header(), start)).is_err() {
                return;
            }
            beginning.members.push(member);
            self.start = None;
        }
        beginning.layers += 1;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // What is in the buffer is not to be written any more.
            let _ = out.into_parts();
        }
        let (State::Begun(beginning), Some(start)) = (&mut *self.state, self.start) else { return };
        let cut = beginning.file.set_len(start);
        if cut.and_then(|()| beginning.file.seek(SeekFrom::Start(start))).is_err() {
            self.early.give_up(&mut self.state);
        }
    }
}
