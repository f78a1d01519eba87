//! `type=local` and `type=tar`: the file system of a target, as files or as one archive.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::plan::{CopyOp, Target};
use kiln_sandbox::mount_detached;
use kiln_store::layer::{LayerIndex, TarOptions, scan, write_tar};

use crate::error::{BuildError, FileContext};
use crate::op::copy::{Copier, plain_copy};
use crate::op::root::Root;
use crate::request::Destination;
use crate::selection::select;
use crate::snapshot::Snapshot;
use crate::solve::Solver;

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
            std::io::copy(&mut from, &mut to).at("write", path)?;
            std::fs::remove_file(temporary).at("remove", temporary)
        } else {
            std::fs::rename(temporary, path).at("write", path)
        }
    });
    if placed.is_err() {
        // The error at hand is the one to show.
        let _ = std::fs::remove_file(temporary);
    }
    placed
}

/// Writes the file systems of targets into a directory: one target's as it is, those of several
/// platforms each into `os_architecture`.
pub(crate) fn to_directory(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    path: &Path,
) -> Result<(), BuildError> {
    for (target, snapshot) in targets {
        let directory = match targets {
            [_] => path.to_owned(),
            _ => path.join(target.platform.to_string().replace('/', "_")),
        };
        std::fs::create_dir_all(&directory).at("create", &directory)?;
        let root = detached(&directory)?;
        copy_all(solver, snapshot, &root)?;
    }
    Ok(())
}

fn detached(directory: &Path) -> Result<Root, BuildError> {
    mount_detached(&[directory.to_owned()], None)
        .map(Root)
        .map_err(|error| BuildError::Usage(error.to_string()))
}

fn copy_all(solver: &Solver<'_>, snapshot: &Snapshot, root: &Root) -> Result<(), BuildError> {
    let tree = solver.tree(snapshot)?;
    let copy: CopyOp = plain_copy();
    if tree.node(b"").is_none() {
        return Ok(());
    }
    let failed = |message: String| BuildError::Usage(format!("cannot write the output: {message}"));
    let selected = select(&tree, "/", &copy).map_err(|error| failed(error.to_string()))?;
    let copier = Copier::new(root, &copy, None);
    for one in &selected {
        copier.copy(one).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Writes the file system of targets as one tar; those of several platforms in directories.
pub(crate) fn to_tar(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    destination: &Destination,
) -> Result<(), BuildError> {
    // The merged tree as one layer: the tar has no whiteouts.
    let working = solver.engine.store.layers().begin()?;
    to_directory(solver, targets, &working.upper)?;
    let index = Arc::new(scan(&working.upper)?);
    let write = |out: &mut dyn Write| archive(&index, &working.upper, out);
    match destination {
        Destination::File(path) | Destination::Directory(path) => {
            let temporary = beside(path);
            let file = File::create(&temporary).at("create", &temporary)?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let written = write(&mut out).and_then(|()| out.flush().at("write", &temporary));
            put_in_place(written, &temporary, path)
        }
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            write(&mut out)?;
            out.flush().at("write", Path::new("-"))
        }
    }
}

fn archive(
    index: &LayerIndex,
    directory: &Path,
    mut out: &mut dyn Write,
) -> Result<(), BuildError> {
    Ok(write_tar(index, directory, &TarOptions::default(), &mut out)?)
}
