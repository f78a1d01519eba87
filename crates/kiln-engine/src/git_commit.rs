//! The commit that a directory's repository is at, read from its files (gitrepository-layout): starting git
//! would cost more than a build that does nothing.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_core::report::Commit;

/// Symbolic references that are followed.
const DEPTH: usize = 5;

/// The commit that is checked out where `directory` is; `None` outside of repositories, and before the
/// first commit.
pub fn commit(directory: &Path) -> Option<Commit> {
    let start = fs::canonicalize(directory).ok()?;
    let git = start.ancestors().find_map(git_directory)?;
    let head = read(&git.join("HEAD"))?;
    let branch = head.strip_prefix("ref: ");
    let id = match branch {
        None => head.clone(),
        Some(name) => resolve(&git, name.trim(), DEPTH)?,
    };
    let is_id = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let branch = branch.and_then(|name| name.trim().strip_prefix("refs/heads/"));
    is_id.then(|| Commit { id, branch: branch.map(str::to_owned) })
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

/// What a reference stands for; those of a worktree are in the repository that it is of.
fn resolve(git: &Path, name: &str, depth: usize) -> Option<String> {
    if name.contains("..") || depth == 0 {
        return None;
    }
    let common = read(&git.join("commondir")).map_or_else(|| git.to_owned(), |path| git.join(path));
    for directory in [git, &common] {
        if let Some(text) = read(&directory.join(name)) {
            return match text.strip_prefix("ref: ") {
                Some(other) => resolve(git, other.trim(), depth - 1),
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
            commit(&top.join(path)).map(|commit| (commit.id, commit.branch.unwrap_or_default()))
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
