//! Files that are there as they were or as they become, never in part.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Writes a file, or replaces it in one step; directories above it are made.
///
/// # Errors
/// Those of the disk; what was there stays.
pub(super) fn replace_file(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| Failure::file("make", parent, error))?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Failure::file("write", path, error)
    })
}
