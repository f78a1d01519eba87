//! The repository that a directory is in, and the commit that it is at, read from its files
//! (gitrepository-layout): starting git would cost more than a build that does nothing.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_core::report::Commit;

/// Symbolic references that are followed.
const DEPTH: usize = 5;

/// A repository with a working tree.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    /// The directory of its files.
    pub(super) top: PathBuf,
    /// What is of this working tree alone: HEAD, the index.
    pub(super) git: PathBuf,
}

impl Repository {
    /// The one that a directory is in.
    pub(super) fn around(directory: &Path) -> Option<Self> {
        let start = fs::canonicalize(directory).ok()?;
        let found = |top: &Path| Some(Self { top: top.to_owned(), git: git_directory(top)? });
        start.ancestors().find_map(found)
    }

    /// What all working trees have in common: objects, branches, settings.
    pub(super) fn common(&self) -> PathBuf {
        let named = read(&self.git.join("commondir"));
        named.map_or_else(|| self.git.clone(), |path| self.git.join(path))
    }

    /// The commit that is checked out; `None` before the first one.
    pub(super) fn commit(&self) -> Option<Commit> {
        let head = read(&self.git.join("HEAD"))?;
        let branch = head.strip_prefix("ref: ");
        let id = match branch {
            None => head.clone(),
            Some(name) => self.resolve(name.trim(), DEPTH)?,
        };
        let is_id = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let branch = branch.and_then(|name| name.trim().strip_prefix("refs/heads/"));
        is_id.then(|| Commit { id, branch: branch.map(str::to_owned), changes: None })
    }

    /// What a reference stands for; those of a worktree are in the repository that it is of.
    fn resolve(&self, name: &str, depth: usize) -> Option<String> {
        if name.contains("..") || depth == 0 {
            return None;
        }
        let common = self.common();
        for directory in [&self.git, &common] {
            if let Some(text) = read(&directory.join(name)) {
                return match text.strip_prefix("ref: ") {
                    Some(other) => self.resolve(other.trim(), depth - 1),
                    None => Some(text),
                };
            }
        }
        let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
        let found = |line: &str| {
            let (id, reference) = line.split_once(' ')?;
            (reference == name).then(|| id.to_owned())
        };
        packed.lines().find_map(found)
    }
}

/// `.git`, or what that file names (of worktrees and submodules).
fn git_directory(directory: &Path) -> Option<PathBuf> {
    let git = directory.join(".git");
    if git.join("HEAD").exists() {
        return Some(git);
    }
    let named = read(&git)?.strip_prefix("gitdir: ")?.to_owned();
    Some(directory.join(named))
}

fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_found_as_git_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        let write = |path: &str, text: &str| {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(40));
        let found = |path: &str| {
            let commit = Repository::around(&top.join(path))?.commit()?;
            Some((commit.id, commit.branch.unwrap_or_default()))
        };
        write("repo/sub/file", "");
        write("repo/.git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(found("repo/sub"), None, "no commit yet");
        write("repo/.git/packed-refs", &format!("# pack-refs\n{a} refs/heads/main\n"));
        assert_eq!(found("repo/sub"), Some((a.clone(), "main".to_owned())));
        write("repo/.git/refs/heads/main", &format!("{b}\n"));
        assert_eq!(found("repo"), Some((b.clone(), "main".to_owned())));
        write("repo/.git/HEAD", &format!("{a}\n"));
        assert_eq!(found("repo"), Some((a.clone(), String::new())));
        // A worktree.
        write("tree/.git", &format!("gitdir: {}/repo/.git/worktrees/tree\n", top.display()));
        write("repo/.git/worktrees/tree/HEAD", "ref: refs/heads/side/topic\n");
        write("repo/.git/worktrees/tree/commondir", "../..\n");
        write("repo/.git/refs/heads/side/topic", &format!("{b}\n"));
        assert_eq!(found("tree"), Some((b, "side/topic".to_owned())));
        write("odd/.git/HEAD", "ref: ../../secret\n");
        assert_eq!(found("odd"), None);
    }
}
