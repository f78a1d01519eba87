//! What git says of a working tree, without trusting its repository.
//!
//! Settings of a repository may name programs that `git status` starts (`core.fsmonitor`, filters): who got a
//! directory with a `.git` in it from somewhere must be able to build it. So git is given a repository of its
//! own, made for this question: HEAD is the commit, objects and index are those that are there, and of its
//! settings only those come along that say how files are compared, and name nothing. What the user has set for
//! all repositories holds. git writes nothing (`GIT_OPTIONAL_LOCKS`) and fetches nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use kiln_core::report::{Changes, Commit};
use kiln_registry::GitProgram;
use kiln_sandbox::Mode;
use kiln_store::Store;

use super::commit::Repository;
use crate::solve::lock;

/// Settings of the repository that hold.
const SETTINGS: [&str; 12] = [
    "core.repositoryformatversion",
    "core.autocrlf",
    "core.eol",
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.trustctime",
    "core.checkstat",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "extensions.objectformat",
];

/// A question to git, which can be taken back.
#[derive(Debug, Default)]
pub(super) struct Asked {
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    child: Option<Child>,
    is_stopped: bool,
}

impl Asked {
    /// Nobody wants to know it any more.
    pub(super) fn stop(&self) {
        let mut running = lock(&self.running);
        running.is_stopped = true;
        if let Some(child) = &mut running.child {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }

    /// What a command writes, if it succeeds.
    fn run(&self, command: &mut Command) -> Option<Vec<u8>> {
        let mut stdout = {
            let mut running = lock(&self.running);
            if running.is_stopped {
                return None;
            }
            let mut child = command.spawn().ok()?;
            let stdout = child.stdout.take()?;
            running.child = Some(child);
            stdout
        };
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes);
        let mut child = lock(&self.running).child.take()?;
        let status = child.wait().ok()?;
        (read.is_ok() && status.success()).then_some(bytes)
    }
}

/// What the working tree of a repository has besides a commit; `None` if git does not tell.
pub(super) fn changes(
    repository: &Repository,
    commit: &Commit,
    (store, user): (&Store, &GitProgram),
    asked: &Asked,
) -> Option<Changes> {
    let made = store.scratch_dir().ok()?;
    let found = ask(repository, commit, (made.path(), user), asked);
    // An empty one leaves no trash, which the next build would have to look after.
    for name in ["HEAD", "config", "info"] {
        let _ = fs::remove_file(made.path().join(name));
    }
    for name in ["objects", "refs"] {
        let _ = fs::remove_dir(made.path().join(name));
    }
    found
}

fn ask(
    repository: &Repository,
    commit: &Commit,
    (directory, user): (&Path, &GitProgram),
    asked: &Asked,
) -> Option<Changes> {
    let program = user.program()?;
    let git = || git(&program, user, directory);
    let common = repository.common();
    let list = ["config", "--no-includes", "--list", "-z", "--file"];
    let listed = asked.run(git().args(list).arg(common.join("config")))?;
    make_repository(directory, &common, commit, &settings(&listed)).ok()?;
    let mut status = git();
    status.env("GIT_INDEX_FILE", repository.git.join("index"));
    status.env("GIT_OBJECT_DIRECTORY", common.join("objects"));
    status.arg("--git-dir").arg(directory).arg("--work-tree").arg(&repository.top);
    if kiln_sandbox::user_namespace::mode().is_ok_and(|mode| mode == Mode::UserNamespace) {
        // Owners are not the numbers here that the index has.
        status.args(["-c", "core.checkStat=minimal"]);
    }
    status.args(["-c", "core.fsmonitor=false", "status", "--porcelain=v1", "-z", "--no-renames"]);
    // Into submodules it does not look: they have settings of their own.
    status.args(["--untracked-files=normal", "--ignore-submodules=dirty"]);
    Some(counted(&asked.run(&mut status)?))
}

fn git(program: &Path, user: &GitProgram, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().env("PATH", &user.path);
    if let Some(home) = &user.home {
        command.env("HOME", home);
    }
    command.envs(user.variables.iter().map(|(name, value)| (name, value)));
    command.envs([
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_ALLOW_PROTOCOL", ""),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LC_ALL", "C"),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The settings that hold, of a list by `git config -z`, as a configuration file says them.
fn settings(listed: &[u8]) -> String {
    let listed = String::from_utf8_lossy(listed);
    let is_word = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let line = |entry: &str| {
        // `core.bare` alone is true.
        let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        let (section, key) = name.split_once('.')?;
        let holds = SETTINGS.contains(&name) && is_word(value);
        holds.then(|| format!("[{section}]\n\t{key} = {value}\n"))
    };
    listed.split('\0').filter_map(line).collect()
}

fn make_repository(
    directory: &Path,
    common: &Path,
    commit: &Commit,
    settings: &str,
) -> std::io::Result<()> {
    fs::write(directory.join("HEAD"), format!("{}\n", commit.id))?;
    fs::write(directory.join("config"), settings)?;
    fs::create_dir(directory.join("objects"))?;
    fs::create_dir(directory.join("refs"))?;
    // What is ignored in this repository alone.
    symlink(common.join("info"), directory.join("info"))
}

/// Counts what `git status --porcelain -z` lists.
fn counted(status: &[u8]) -> Changes {
    let mut changes = Changes::default();
    for entry in status.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        if entry.starts_with(b"??") {
            changes.untracked += 1;
        } else {
            changes.tracked += 1;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_compare_files_come_along() {
        let listed = b"core.autocrlf\ninput\0core.fsmonitor\n/tmp/evil\0filter.x.clean\nevil\0\
                       core.eol\nlf\n[core]\n\tfsmonitor=evil\0core.filemode\0core.worktree\n/etc\0";
        assert_eq!(settings(listed), "[core]\n\tautocrlf = input\n[core]\n\tfilemode = true\n");
    }

    #[test]
    fn tracked_and_untracked_files_are_told_apart() {
        let status = b" M a b\0?? new\nname\0A  staged\0?? dir/\0UU both\0";
        assert_eq!(counted(status), Changes { tracked: 3, untracked: 2 });
        assert_eq!(counted(b""), Changes::default());
    }
}
