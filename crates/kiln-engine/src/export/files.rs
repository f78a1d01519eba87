//! `type=local` and `type=tar`: the file system of a target, as files or as one archive.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kiln_core::digest::FieldHasher;
use kiln_core::plan::{CopyOp, ResultLayout, Target};
use kiln_sandbox::mount_detached;
use kiln_store::layer::{Entry, EntryKind, LayerIndex, TarOptions, TarTimes, scan, write_tar};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::{BuildError, FileContext};
use crate::op::copy::{Copier, CopyError, Devices};
use crate::op::destination::Destination as _;
use crate::op::root::{Root, RootError};
use crate::request::{Destination, PlatformSplit};
use crate::selection::select;
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::Solver;
use crate::source_tree::SourceTree;

/// From this size on, and from so many files on, it is remembered what was written where: below
/// it, writing again costs less.
pub(super) const REMEMBERED_BYTES: u64 = 1 << 20;
const REMEMBERED_FILES: usize = 256;

/// A name in the same directory for a file that is not whole yet.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".kiln-{}", std::process::id()));
    path.with_file_name(name)
}

/// Renames what was written to its name, or takes it away if writing failed. Something that is no
/// file (`/dev/null`, a pipe) keeps its place and is written to.
pub(crate) fn put_in_place(
    written: Result<(), BuildError>,
    temporary: &Path,
    path: &Path,
) -> Result<(), BuildError> {
    let is_special =
        std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    let placed = written.and_then(|()| {
        if is_special {
            let mut from = File::open(temporary).at("read", temporary)?;
            let mut to = File::options().write(true).open(path).at("write", path)?;
            io::copy(&mut from, &mut to).at("write", path)?;
            std::fs::remove_file(temporary).at("remove", temporary)
        } else {
            replace(temporary, path).at("write", path)
        }
    });
    if placed.is_err() {
        // The error at hand is the one to show.
        let _ = std::fs::remove_file(temporary);
    }
    placed
}

/// Renames a file to a name that another file may have. The names are swapped and the older file is
/// deleted: where it is simply replaced, ext4 hands all of the new one to the disk first (its
/// `auto_da_alloc`), which for an image of some hundred megabytes takes longer than to build it. As
/// with a file of a new name, the kernel writes it out in its own time.
fn replace(temporary: &Path, path: &Path) -> io::Result<()> {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    if is_file && renameat_with(CWD, temporary, CWD, path, RenameFlags::EXCHANGE).is_ok() {
        return std::fs::remove_file(temporary);
    }
    std::fs::rename(temporary, path)
}

/// Writes the file systems of targets into a directory: one target's as it is, those of several
/// platforms each into `os_architecture`.
pub(crate) fn to_directory(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (path, split): (&Path, PlatformSplit),
) -> Result<(), BuildError> {
    check_overlap(solver, targets, split)?;
    let written = Written::of(solver, targets, split)?;
    if written.is_there(solver, path)? {
        return Ok(());
    }
    write_all(solver, targets, (path, split))?;
    written.remember(solver, path)
}

/// What is written into a directory, to tell whether it is there already.
struct Written {
    /// A digest of all that decides what it is.
    what: [u8; 32],
    paths: Vec<Vec<u8>>,
    size_bytes: u64,
}

impl Written {
    fn of(
        solver: &Solver<'_>,
        targets: &[(&Target, Snapshot)],
        split: PlatformSplit,
    ) -> Result<Self, BuildError> {
        let what = identity(solver, (targets, split), "directory");
        let (mut paths, mut size_bytes) = (Vec::new(), 0);
        for (target, snapshot) in targets {
            let SourceTree::Snapshot { tree, .. } = solver.tree(snapshot)? else { continue };
            let place = place(solver, target, split);
            for (path, entry, layer) in tree.walk(b"").filter(|(path, ..)| !path.is_empty()) {
                if let EntryKind::File { size_bytes: size, .. } = tree.file(entry, layer).kind {
                    size_bytes += size;
                }
                paths.push([place.as_bytes(), path].concat());
            }
        }
        Ok(Self { what, paths, size_bytes })
    }

    fn is_worth_it(&self) -> bool {
        self.size_bytes >= REMEMBERED_BYTES || self.paths.len() >= REMEMBERED_FILES
    }

    fn is_there(&self, solver: &Solver<'_>, path: &Path) -> Result<bool, BuildError> {
        let exports = solver.engine.store.exports();
        Ok(self.is_worth_it() && exports.is_current_tree(path, &self.paths, &self.what)?)
    }

    fn remember(&self, solver: &Solver<'_>, path: &Path) -> Result<(), BuildError> {
        if self.is_worth_it() {
            solver.engine.store.exports().remember_tree(path, &self.paths, &self.what)?;
        }
        Ok(())
    }
}

/// A digest of all that decides what an output of files holds.
fn identity(
    solver: &Solver<'_>,
    (targets, split): (&[(&Target, Snapshot)], PlatformSplit),
    form: &str,
) -> [u8; 32] {
    let mut hasher = FieldHasher::new("kiln files 1");
    hasher.field(form).field(format!("{split:?} {:?}", solver.request.plan.layout));
    for (target, snapshot) in targets {
        hasher.field(target.platform.to_string()).field(format!("{:?}", target.epoch));
        for layer in snapshot.layers() {
            match layer {
                SnapshotLayer::Base { image, position } => {
                    hasher.field(image.diff_ids[*position].to_string())
                }
                SnapshotLayer::Built { layer, .. } => hasher.field(layer.id.to_string()),
            };
        }
    }
    hasher.finish()
}

/// The directory of a platform within an output, with a slash, if there is one.
fn place(solver: &Solver<'_>, target: &Target, split: PlatformSplit) -> String {
    if is_split(split, solver.request.plan.layout) {
        target.platform.to_string().replace('/', "_") + "/"
    } else {
        String::new()
    }
}

fn write_all(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (path, split): (&Path, PlatformSplit),
) -> Result<(), BuildError> {
    let is_split = is_split(split, solver.request.plan.layout);
    for (target, snapshot) in targets {
        let directory = path.join(place(solver, target, split));
        std::fs::create_dir_all(&directory).at("create", &directory)?;
        let root = detached(&directory)?;
        copy_all(solver, snapshot, &root)?;
        if let Some(epoch) = target.epoch {
            date_all(solver, snapshot, (&root, epoch))?;
            if is_split {
                root.set_time(b"", epoch, 0).map_err(|error| failed(&error.to_string()))?;
            }
        }
    }
    Ok(())
}

fn is_split(split: PlatformSplit, layout: ResultLayout) -> bool {
    match split {
        PlatformSplit::Several => layout == ResultLayout::ByPlatform,
        PlatformSplit::Always => true,
        PlatformSplit::Never => false,
    }
}

/// Several platforms in one directory may share directories only.
fn check_overlap(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    split: PlatformSplit,
) -> Result<(), BuildError> {
    if split != PlatformSplit::Never || targets.len() < 2 {
        return Ok(());
    }
    let mut seen: BTreeMap<Vec<u8>, &Target> = BTreeMap::new();
    for (target, snapshot) in targets {
        let SourceTree::Snapshot { tree, .. } = solver.tree(snapshot)? else { continue };
        for (path, entry, _) in tree.walk(b"") {
            if matches!(entry.kind, EntryKind::Directory { .. }) {
                continue;
            }
            if let Some(first) = seen.insert(path.to_vec(), target) {
                return Err(BuildError::Usage(format!(
                    "cannot overwrite {} from {} with {} when split option is disabled",
                    String::from_utf8_lossy(path),
                    first.platform,
                    target.platform
                )));
            }
        }
    }
    Ok(())
}

fn failed(message: &str) -> BuildError {
    BuildError::Usage(format!("cannot write the output: {message}"))
}

/// With an epoch, all that was written has its time (BuildKit).
fn date_all(
    solver: &Solver<'_>,
    snapshot: &Snapshot,
    (root, epoch): (&Root, i64),
) -> Result<(), BuildError> {
    let SourceTree::Snapshot { tree, .. } = solver.tree(snapshot)? else { return Ok(()) };
    for (path, ..) in tree.walk(b"").filter(|(path, ..)| !path.is_empty()) {
        let dated = match root.stat(path) {
            // A device node that only real root may make.
            Ok(None) => Ok(()),
            Ok(Some(_)) => root.set_time(path, epoch, 0),
            Err(error) => Err(error),
        };
        dated.map_err(|error| failed(&error.to_string()))?;
    }
    Ok(())
}

fn detached(directory: &Path) -> Result<Root, BuildError> {
    mount_detached(&[directory.to_owned()], None)
        .map(Root)
        .map_err(|error| BuildError::Usage(error.to_string()))
}

/// All files belong to whoever runs kiln, as with buildx: an ordinary user can delete them again.
fn copy_all(solver: &Solver<'_>, snapshot: &Snapshot, root: &Root) -> Result<(), BuildError> {
    let tree = solver.tree_with_files(snapshot)?;
    let copy: CopyOp = CopyOp::plain(Vec::new());
    let selected = select(&tree, "/", &copy).map_err(|error| failed(&error.to_string()))?;
    let copier = Copier::new(root, &copy, Some((0, 0))).with_devices(Devices::MakeIfAllowed);
    for one in &selected {
        copier.copy(one).map_err(|error| match error {
            CopyError::Root(RootError::Io { action, path, source }) => {
                BuildError::File { action, path: PathBuf::from(path), source: source.into() }
            }
            CopyError::Root(RootError::Read { path, source }) => {
                BuildError::File { action: "read", path: path.into(), source: source.into() }
            }
            error => failed(&error.to_string()),
        })?;
    }
    Ok(())
}

/// Writes the file system of targets as one tar; those of several platforms in directories.
pub(crate) fn to_tar(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (destination, split): (&Destination, PlatformSplit),
) -> Result<(), BuildError> {
    match destination {
        Destination::File(path) | Destination::Directory(path) => {
            let exports = solver.engine.store.exports();
            let what = identity(solver, (targets, split), "archive");
            if exports.is_current(path, &what)? {
                return Ok(());
            }
            let temporary = beside(path);
            let file = File::create(&temporary).at("create", &temporary)?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let written = archive(solver, targets, split, &mut out)
                .and_then(|()| out.flush().at("write", &temporary));
            put_in_place(written, &temporary, path)?;
            if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() >= REMEMBERED_BYTES) {
                exports.remember(path, &what)?;
            }
            Ok(())
        }
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
            archive(solver, targets, split, &mut out)?;
            out.flush().at("write", Path::new("-"))
        }
    }
}

fn archive(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    split: PlatformSplit,
    mut out: &mut dyn Write,
) -> Result<(), BuildError> {
    let epoch = targets.first().and_then(|(target, _)| target.epoch);
    let times = epoch.map_or(TarTimes::Own, TarTimes::All);
    let options = TarOptions { times, ..TarOptions::default() };
    if let ([(_, snapshot)], ResultLayout::Plain) = (targets, solver.request.plan.layout)
        && !snapshot.layers().is_empty()
    {
        let (index, files) = merged(solver, snapshot)?;
        return Ok(write_tar(&index, &files.path, &options, &mut out)?);
    }
    // Several platforms: side by side in one directory first.
    let working = solver.engine.store.layers().begin()?;
    check_overlap(solver, targets, split)?;
    write_all(solver, targets, (&working.upper, split))?;
    let index = scan(&working.upper)?;
    Ok(write_tar(&index, &working.upper, &options, &mut out)?)
}

/// The files of a snapshot under one path, for as long as this lives.
struct MergedFiles {
    path: PathBuf,
    _mount: Option<OwnedFd>,
}

/// All layers of a snapshot as one: its index, without whiteouts, and its files.
fn merged(
    solver: &Solver<'_>,
    snapshot: &Snapshot,
) -> Result<(LayerIndex, MergedFiles), BuildError> {
    let mut lowers = solver.layer_dirs(snapshot)?;
    lowers.reverse();
    let SourceTree::Snapshot { tree, .. } = solver.tree(snapshot)? else {
        unreachable!("the tree of a snapshot is not that of a context");
    };
    let mut first_names: BTreeMap<(usize, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut entries = Vec::new();
    for (path, entry, layer) in tree.walk(b"") {
        let file = tree.file(entry, layer);
        if file.kind == EntryKind::Socket {
            continue;
        }
        let mut merged = Entry { path: path.to_vec(), ..file.clone() };
        // Go's archives round where layers cut off (BuildKit).
        merged.mtime.seconds += i64::from(merged.mtime.nanoseconds >= 500_000_000);
        match &file.kind {
            EntryKind::Directory { .. } => merged.kind = EntryKind::Directory { opaque: false },
            EntryKind::File { .. } => match first_names.entry((layer, file.path.clone())) {
                MapEntry::Occupied(first) => {
                    merged.kind = EntryKind::HardLink { target: first.get().clone() };
                }
                MapEntry::Vacant(slot) => {
                    slot.insert(path.to_vec());
                }
            },
            _ => {}
        }
        entries.push(merged);
    }
    let files = match lowers.as_slice() {
        [only] => MergedFiles { path: only.clone(), _mount: None },
        several => {
            let mount = mount_detached(several, None)
                .map_err(|error| BuildError::Usage(error.to_string()))?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
            MergedFiles { path, _mount: Some(mount) }
        }
    };
    Ok((LayerIndex::from_entries(entries)?, files))
}
