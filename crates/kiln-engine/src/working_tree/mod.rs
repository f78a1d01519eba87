//! What the files of a build are of: the commit of git that is checked out where its context is, and what the
//! working tree has besides.
//!
//! The commit is read from files, for each build. Whether files differ from it only git knows for sure, and
//! it takes some milliseconds, in large trees many: it is asked while the first step runs, and its answer is
//! noted behind the build, when the user has been told the result. A build that the cache answered asks
//! nothing.

mod commit;
mod status;

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_core::report::{BuildId, Commit};
use kiln_registry::GitProgram;
use kiln_store::Store;

use crate::solve::lock;
use commit::Repository;
use status::{Asked, changes};

/// How long git is waited for when the build is over.
const PATIENCE: Duration = Duration::from_millis(100);

/// The commit that is checked out where `directory` is; `None` outside of repositories, and before the
/// first commit.
pub fn commit(directory: &Path) -> Option<Commit> {
    Repository::around(directory)?.commit()
}

/// git's look at a working tree, beside a build.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    look: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    found: Receiver<Commit>,
    asked: Arc<Asked>,
    /// The build that it is noted for.
    build: Option<(BuildId, Commit)>,
}

impl Watch {
    /// Begins to look at the working tree that `directory` is in, if nobody has.
    pub(crate) fn begin(&self, store: &Arc<Store>, git: &GitProgram, directory: &Path) {
        let mut look = lock(&self.look);
        if look.is_some() {
            return;
        }
        let (sender, found) = sync_channel(1);
        let asked = Arc::new(Asked::default());
        *look = Some(Look { found, asked: Arc::clone(&asked), build: None });
        let (store, git, directory) = (Arc::clone(store), git.clone(), directory.to_owned());
        let thread = std::thread::Builder::new().name("git status".to_owned());
        // Without a thread it is not known, which is no failure of the build.
        let _ = thread.spawn(move || {
            let repository = Repository::around(&directory)?;
            let commit = repository.commit()?;
            let changes = changes(&repository, &commit, (&store, &git), &asked)?;
            sender.send(Commit { changes: Some(changes), ..commit }).ok()
        });
    }

    /// The build that was recorded, and its commit.
    pub(crate) fn recorded(&self, id: BuildId, commit: Option<&Commit>) {
        if let (Some(look), Some(commit)) = (lock(&self.look).as_mut(), commit) {
            look.build = Some((id, commit.clone()));
        }
    }

    /// Notes what was found in the history, if git has told it by now or does so soon.
    pub(crate) fn end(&self, store: &Store) {
        let Some(look) = lock(&self.look).take() else { return };
        let found = match &look.build {
            Some(_) => look.found.recv_timeout(PATIENCE).ok(),
            None => None,
        };
        look.asked.stop();
        // Who has committed meanwhile was not at this commit.
        if let (Some(found), Some((id, recorded))) = (found, look.build)
            && found.id == recorded.id
        {
            let _ = store.history().note_commit(id, &Commit { changes: found.changes, ..recorded });
        }
    }
}
