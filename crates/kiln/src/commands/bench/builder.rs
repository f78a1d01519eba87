//! A builder that is measured: what all of them can do, and how their processes are timed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use kiln_core::performance::Rate;
use rustix::process::{Pid, Signal, kill_process};

use super::options::BuildOptions;

/// Lines of a failed build that are shown.
const SHOWN_LINES: usize = 30;
/// How often a build is asked whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);

/// What every builder builds.
#[derive(Debug)]
pub(super) struct Job {
    /// The copy of the user's context.
    pub(super) context: PathBuf,
    /// The user's own Dockerfile.
    pub(super) dockerfile: PathBuf,
    pub(super) options: BuildOptions,
    /// Whether base images are there before a clean build.
    pub(super) bases: Bases,
}

impl Job {
    /// The stages that are built, for builders that build one at a time; `None` is the last one.
    pub(super) fn each_target(&self) -> Vec<Option<&str>> {
        match self.options.targets().as_slice() {
            [] => vec![None],
            targets => targets.iter().copied().map(Some).collect(),
        }
    }
}

/// Whether a clean build finds its base images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bases {
    /// They were pulled before: no network is measured but that of the steps.
    Kept,
    /// Pulling is part of the build.
    Pulled,
}

/// What a build may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// No result of a step; [`Builder::forget`] was called.
    Clean,
    /// What was built before.
    Cached,
}

/// A builder.
pub(super) trait Builder {
    /// As `--against` names it.
    fn name(&self) -> &'static str;

    /// As it says it itself.
    fn version(&self) -> &str;

    /// What its figures hold, and what not.
    fn notes(&self) -> Vec<String>;

    /// Gets ready for the first build, which is not measured.
    fn prepare(&mut self, job: &Job) -> Result<(), Fault>;

    /// Gets ready for a clean build, which is.
    fn forget(&mut self, job: &Job) -> Result<(), Fault>;

    /// The processes that make a build, one after the other.
    fn commands(&self, job: &Job, freshness: Freshness) -> Vec<Command>;

    /// Steps of the last build, and how many of them the cache had.
    fn steps(&self) -> Option<Rate> {
        None
    }

    /// Tidies up behind a build; not measured.
    fn after(&mut self) {}
}

/// Why a builder is not measured any further.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    pub(super) message: String,
    /// The last lines that it wrote.
    pub(super) said: Vec<String>,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), said: Vec::new(), help: None }
    }

    #[must_use]
    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Of a process that has failed.
    fn ended(command: &Command, status: ExitStatus, said: &str) -> Self {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let program = program.to_string_lossy();
        let message = match status.code() {
            Some(code) => format!("{program} ended with exit code {code}"),
            None => format!("{program} was ended: {status}"),
        };
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        let said = lines[first..].iter().map(ToString::to_string).collect();
        Self { message, said, help: None }
    }

    fn start(command: &Command, error: &std::io::Error) -> Self {
        let program = command.get_program().to_string_lossy();
        Self::new(format!("{program} does not start: {error}"))
    }
}

/// Whether a program is on this machine.
pub(super) fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    !matches!(command.status(), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// What a command prints.
pub(super) fn output(command: &mut Command) -> Result<String, Fault> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Fault::start(command, &error))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(Fault::ended(command, output.status, &said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs processes one after the other, from the start of each to its end; what they write goes to a file.
/// When `cancelled` is set they are asked to end.
///
/// # Errors
/// When one fails.
pub(super) fn timed(
    commands: Vec<Command>,
    log: &Path,
    cancelled: &AtomicBool,
) -> Result<Duration, Fault> {
    let mut took = Duration::ZERO;
    for mut command in commands {
        let file = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) =
            file.map_err(|error| Fault::new(format!("write {}: {error}", log.display())))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let begin = Instant::now();
        let mut child = command.spawn().map_err(|error| Fault::start(&command, &error))?;
        let pid = Pid::from_child(&child);
        let (ended, is_ended) = mpsc::channel::<()>();
        let status = std::thread::scope(|scope| {
            scope.spawn(move || {
                while is_ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    if cancelled.load(Ordering::Relaxed) {
                        let _ = kill_process(pid, Signal::TERM);
                        return;
                    }
                }
            });
            let status = child.wait();
            took += begin.elapsed();
            drop(ended);
            status
        });
        let status = status.map_err(|error| Fault::start(&command, &error))?;
        if !status.success() {
            let said = std::fs::read(log).unwrap_or_default();
            return Err(Fault::ended(&command, status, &String::from_utf8_lossy(&said)));
        }
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_fails_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let run = |script: &str| timed(vec![shell(script)], &log, &AtomicBool::new(false));
        assert!(run("echo fine").is_ok());
        let fault = run("echo one; echo; echo two >&2; exit 7").unwrap_err();
        assert_eq!(fault.message, "sh ended with exit code 7");
        assert_eq!(fault.said, ["one", "two"]);
        let fault = run("seq 1000; exit 1").unwrap_err();
        assert_eq!((fault.said.len(), &*fault.said[0]), (SHOWN_LINES, "971"));
        let nothing = Command::new("/nowhere/builder");
        let fault = timed(vec![nothing], &log, &AtomicBool::new(false)).unwrap_err();
        assert!(fault.message.starts_with("/nowhere/builder does not start"), "{fault}");
    }

    #[test]
    fn what_is_not_wanted_any_more_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let fault = timed(vec![shell("exec sleep 600")], &log, &AtomicBool::new(true));
        assert!(fault.unwrap_err().message.contains("was ended"));
    }
}
