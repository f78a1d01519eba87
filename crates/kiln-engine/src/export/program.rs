//! Programs that read an archive from standard input.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::archive::Archive;
use crate::error::{BuildError, FileContext};
use crate::solve::Solver;

/// How often it is looked whether the build was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(30);
/// As much of what a program says is kept.
const LONGEST_WORDS: u64 = 64 << 10;

/// Runs a program with an archive as its standard input.
pub(super) fn feed(
    solver: &Solver<'_>,
    (name, arguments): (&str, &[&str]),
    archive: &Archive,
) -> Result<(), BuildError> {
    let path = find(solver, name)?;
    let mut child = Command::new(&path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .at("start", &path)?;
    let (written, words) = talk(solver, &mut child, archive, &path);
    let status = child.wait().at("wait for", &path)?;
    if solver.is_canceled() {
        return Err(BuildError::Canceled);
    }
    if status.success() {
        return written;
    }
    let last = words.trim().lines().last().unwrap_or("it says nothing").to_owned();
    let message = format!("`{name} {}` failed ({status}): {last}", arguments.join(" "));
    Err(BuildError::Network { message, help: None })
}

fn find(solver: &Solver<'_>, name: &str) -> Result<PathBuf, BuildError> {
    let mut places = std::env::split_paths(&solver.engine.search_path);
    places.find_map(|place| Some(place.join(name)).filter(|path| path.is_file())).ok_or_else(|| {
        BuildError::Network {
            message: format!("`{name}` is not installed: PATH holds no such program"),
            help: Some("`-o type=oci,dest=FILE` or `-o type=docker,dest=FILE` needs none".into()),
        }
    })
}

/// Sends the archive and hears what the program says, until it has ended its side.
fn talk(
    solver: &Solver<'_>,
    child: &mut Child,
    archive: &Archive,
    path: &Path,
) -> (Result<(), BuildError>, String) {
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    let pid = Pid::from_child(child);
    let (running, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(CANCEL_POLL) == Err(mpsc::RecvTimeoutError::Timeout) {
                if solver.is_canceled() {
                    // It is not waited for before this thread has ended.
                    let _ = kill_process(pid, Signal::TERM);
                    return;
                }
            }
        });
        let hearing = scope.spawn(move || {
            let mut words = Vec::new();
            if let Some(mut errors) = errors {
                let _ = errors.by_ref().take(LONGEST_WORDS).read_to_end(&mut words);
                let _ = std::io::copy(&mut errors, &mut std::io::sink());
            }
            String::from_utf8_lossy(&words).into_owned()
        });
        let mut out = BufWriter::with_capacity(1 << 20, input.expect("it was asked for"));
        let written = archive
            .write(solver, 0, (&mut out, path))
            .and_then(|()| out.flush().at("write to", path));
        drop(out);
        let words = hearing.join().unwrap_or_default();
        drop(running);
        (written, words)
    })
}
