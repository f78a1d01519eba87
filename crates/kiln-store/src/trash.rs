//! What is to be deleted is renamed into `trash/` and deleted behind a build.
//!
//! A rename costs microseconds whatever the size, and mass deletions make the creation of files
//! up to 15 times slower for a minute on ext4: so nothing is deleted before or during a build.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::Error;
use crate::store::Store;

impl Store {
    /// Moves a file or directory of the store to the trash; one that is gone is fine.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), Error> {
        let target = self.path("trash").join(self.unique_name());
        match std::fs::rename(path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(Error::io("move to the trash", path)),
        }
    }

    /// Whether there is anything to delete.
    pub(crate) fn has_trash(&self) -> bool {
        let entries = std::fs::read_dir(self.path("trash"));
        entries.is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Deletes what is in the trash; never before or during a build. A process that ends first
    /// leaves the rest for the next call.
    pub(crate) fn delete_trash(&self) -> Result<(), Error> {
        let trash = self.path("trash");
        for entry in std::fs::read_dir(&trash).map_err(Error::io("read directory", &trash))? {
            let entry = entry.map_err(Error::io("read directory", &trash))?;
            delete(&entry.path())?;
        }
        Ok(())
    }
}

fn delete(path: &Path) -> Result<(), Error> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => delete_directory(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        // Another process empties the trash, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::io("delete", path)),
    }
}

fn delete_directory(path: &Path) -> io::Result<()> {
    loop {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Directories that their owner may not enter, such as overlayfs's work directory.
                make_enterable(path)?;
                return std::fs::remove_dir_all(path);
            }
            // Two are deleting the same tree: go on until nothing is left.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => return result,
        }
    }
}

fn make_enterable(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_enterable(&entry.path())?;
        }
    }
    Ok(())
}
