//! Runs the program `git`, with an environment of its own.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::GitRemote;
use crate::config::GitProgram;
use crate::error::Error;
use crate::exchange::Exchange;

/// How often it is looked whether the client was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(30);

/// Most of what git says that is kept for a message.
const MESSAGE_BYTES: usize = 4000;

/// Settings that keep a user's own out of what git writes, and waits bounded.
const SETTINGS: [(&str, &str); 17] = [
    ("init.defaultBranch", "master"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.askPass", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("filter.lfs.smudge", ""),
    ("filter.lfs.process", ""),
    ("filter.lfs.required", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "120"),
];

/// What git may speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    None,
    /// A repository beside it.
    Files,
    /// Servers, with the configuration of the user.
    Network,
}

/// What git wrote.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: String,
}

/// The program, for one repository.
#[derive(Clone)]
pub(super) struct Git<'a> {
    log: Option<&'a (dyn Fn(&str) + Sync)>,
    exchange: &'a Exchange,
    remote: &'a GitRemote,
    program: PathBuf,
    directory: Option<PathBuf>,
    work_tree: Option<PathBuf>,
}

impl std::fmt::Debug for Git<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Git").field("program", &self.program).finish_non_exhaustive()
    }
}

impl<'a> Git<'a> {
    pub(super) fn new(exchange: &'a Exchange, remote: &'a GitRemote) -> Result<Self, Error> {
        let program =
            exchange.config().git.program().ok_or_else(|| Error::NoGit { url: remote.shown() })?;
        Ok(Self { log: None, exchange, remote, program, directory: None, work_tree: None })
    }

    /// The same with what git says told to somebody.
    pub(super) fn logged(self, log: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The same for a repository on disk.
    pub(super) fn within(&self, git_dir: &Path) -> Self {
        Self { directory: Some(git_dir.to_owned()), ..self.clone() }
    }

    /// The same for its files in a directory.
    pub(super) fn over(&self, work_tree: &Path) -> Self {
        Self { work_tree: Some(work_tree.to_owned()), ..self.clone() }
    }

    /// Runs git, with one commit deep history where the server knows how to.
    pub(super) fn run_shallow(&self, access: Access, words: &[&str]) -> Result<Output, Error> {
        let mut shallow: Vec<&str> = words.to_vec();
        if words.first() == Some(&"fetch") {
            shallow.insert(1, "--depth=1");
        }
        match self.run(access, &shallow) {
            Err(Error::Git { stderr, .. })
                if stderr.contains("--depth") || stderr.contains("shallow") =>
            {
                let words: Vec<&str> =
                    words.iter().copied().filter(|word| *word != "--depth=1").collect();
                self.run(access, &words)
            }
            result => result,
        }
    }

    /// Runs git to its end.
    pub(super) fn run(&self, access: Access, words: &[&str]) -> Result<Output, Error> {
        self.exchange.cancellation().check()?;
        let run_error = |source| Error::RunGit { source };
        let mut child = self.command(access, words).spawn().map_err(run_error)?;
        let (ended, stdout, stderr) = self.watch(&mut child);
        ended?;
        let status = child.wait().map_err(run_error)?;
        let stderr = self.printable(&stderr);
        if let Some(log) = self.log {
            stderr.lines().for_each(log);
        }
        if status.success() {
            return Ok(Output { stdout: String::from_utf8_lossy(&stdout).into_owned() });
        }
        let stderr =
            if stderr.trim().is_empty() { format!("git ended with {status}") } else { stderr };
        Err(Error::Git { url: self.remote.shown(), stderr })
    }

    /// Reads what git writes until it ends; ends it when the client is cancelled.
    fn watch(&self, child: &mut Child) -> (Result<(), Error>, Vec<u8>, Vec<u8>) {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pid = Pid::from_child(child);
        std::thread::scope(|scope| {
            let out = scope.spawn(|| read(stdout));
            let err = scope.spawn(|| read(stderr));
            let ended = self.wait(pid);
            if ended.is_err() {
                // The whole group: git's helpers hold the pipes open.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let bytes = |thread: std::thread::ScopedJoinHandle<'_, Vec<u8>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            (ended, bytes(out), bytes(err))
        })
    }

    fn wait(&self, pid: Pid) -> Result<(), Error> {
        let source = |errno: rustix::io::Errno| Error::RunGit { source: errno.into() };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(source)?;
        let timeout = Timespec { tv_sec: 0, tv_nsec: CANCEL_POLL.as_nanos() as i64 };
        loop {
            self.exchange.cancellation().check()?;
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(source(errno)),
            }
        }
    }

    fn command(&self, access: Access, words: &[&str]) -> Command {
        // Modes of files are what git makes them with BuildKit, whatever the user's mask is.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022 && exec \"$@\"", "sh"]).arg(&self.program);
        if let Some(directory) = &self.work_tree {
            command.arg("--work-tree").arg(directory).current_dir(directory);
        } else {
            command.current_dir("/");
        }
        if let Some(directory) = &self.directory {
            command.arg("--git-dir").arg(directory);
        }
        command.args(words).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.set_environment(&mut command, access);
        command
    }

    fn set_environment(&self, command: &mut Command, access: Access) {
        let user = &self.exchange.config().git;
        let fixed = [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("LC_ALL", "C"),
            ("GCM_INTERACTIVE", "never"),
        ];
        command.env_clear().env("PATH", &user.path).envs(fixed);
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        if access == Access::Network {
            command.env("GIT_ALLOW_PROTOCOL", "http:https:ssh:git");
            command.env("GIT_SSH_COMMAND", ssh(user.home.as_deref()));
            if let Some(home) = &user.home {
                command.env("HOME", home);
            }
            command.envs(user.variables.iter().map(|(name, value)| (name, value)));
            if user.variables.iter().any(|(name, _)| name == "GIT_SSH") {
                command.env_remove("GIT_SSH_COMMAND");
            }
            if let Some(authorization) = &self.remote.authorization {
                let name = format!("http.{}.extraHeader", self.remote.scope());
                settings.push((name, format!("Authorization: {}", authorization.expose())));
            }
        } else {
            let allowed = if access == Access::Files { "file" } else { "" };
            command.env("GIT_ALLOW_PROTOCOL", allowed);
            command.env("HOME", "/dev/null").env("GIT_CONFIG_GLOBAL", "/dev/null");
        }
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (position, (name, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{position}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{position}"), value);
        }
    }

    /// The end of what git said, without credentials.
    fn printable(&self, stderr: &[u8]) -> String {
        let start = stderr.len().saturating_sub(MESSAGE_BYTES);
        let mut text = String::from_utf8_lossy(&stderr[start..]).into_owned();
        text = text.replace(&self.remote.url, &self.remote.shown());
        if let Some(authorization) = &self.remote.authorization {
            text = text.replace(authorization.expose(), "xxxxx");
        }
        text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
    }
}

fn read(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What came before a broken pipe is all that there is.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

impl GitProgram {
    /// `git` in the user's path.
    pub fn program(&self) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let is_program = |path: &PathBuf| {
            path.is_absolute()
                && std::fs::metadata(path).is_ok_and(|metadata| {
                    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
                })
        };
        let directories = self.path.as_bytes().split(|byte| *byte == b':');
        directories.map(|text| Path::new(OsStr::from_bytes(text)).join("git")).find(is_program)
    }
}

/// How ssh is called: it asks nothing, and knows the user's hosts and keys. Inside a user
/// namespace everyone is root, and ssh would look for them in root's home.
fn ssh(home: Option<&Path>) -> String {
    let mut command = "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30 \
                       -o ServerAliveInterval=30 -o StrictHostKeyChecking=accept-new"
        .to_owned();
    let Some(directory) = home.map(|home| home.join(".ssh")) else { return command };
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    command.push_str(&format!(" -o UserKnownHostsFile={}", quoted(&directory.join("known_hosts"))));
    for key in ["id_ed25519", "id_ecdsa", "id_rsa"] {
        let key = directory.join(key);
        if key.exists() {
            command.push_str(&format!(" -i {}", quoted(&key)));
        }
    }
    command
}
