//! RUN: a command in the sandbox, over a snapshot, into a new layer.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_core::event::{Stream, Usage};
use kiln_core::plan::{ExecOp, Network, Security, Ulimit};
use kiln_sandbox::{
    Access, ExitStatus, Mount, Network as SandboxNetwork, Privileges, Process, Resource,
    ResourceLimit, Rootfs, Spec, Stdio,
};

use super::file::{Target, accounts};
use super::mounts::{MountSet, read_only};
use crate::activity::Running as Activity;
use crate::error::{FileContext, StepError};
use crate::machine::emulator;
use crate::redact::Redactor;
use crate::solve::{HOST_NAME, Solver, StepInputs};
use crate::user::ProcessUser;

/// `PATH` when the image has none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many lines of output a failure shows.
const LAST_LINES: usize = 12;

/// Where the host's CA bundle stands in the sandbox.
const HOST_CA_PATH: &str = "/run/kiln/ca-certificates.crt";

/// Variables by which tools find a CA bundle.
const HOST_CA_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
];

/// Runs the command; its changes are in the target's upper directory.
pub(crate) fn run(
    solver: &Solver<'_>,
    exec: &ExecOp,
    (target, inputs): (&Target<'_>, &StepInputs),
    activity: &Activity<'_>,
) -> Result<(), StepError> {
    let accounts = accounts(&inputs.root_tree(solver)?)?;
    let user = accounts
        .process_user(&exec.user)
        .map_err(|message| StepError::failed("unknown-user", message))?;
    let mut set = MountSet::prepare(solver, &exec.mounts, inputs)?;
    add_own_mounts(solver, exec, &mut set)?;
    let spec = Spec {
        rootfs: Rootfs {
            lowers: target.lowers.to_vec(),
            upper: target.upper.to_owned(),
            work: target.work.to_owned(),
            access: Access::ReadWrite,
        },
        mounts: std::mem::take(&mut set.mounts),
        process: Process {
            args: exec.args.iter().map(OsString::from).collect(),
            env: environment(solver, exec, &set, &user),
            cwd: PathBuf::from(&exec.cwd),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            limits: exec.ulimits.iter().filter_map(limit).collect(),
        },
        network: match exec.network {
            Network::None => SandboxNetwork::None,
            Network::Default | Network::Host => SandboxNetwork::Host,
        },
        hostname: solver.host_name().unwrap_or(HOST_NAME).to_owned(),
        stdio: Stdio::Piped,
        privileges: match exec.security {
            Security::Sandbox => Privileges::Default,
            Security::Insecure => Privileges::Insecure,
        },
        emulator: emulator(solver.engine, &exec.platform)?,
    };
    execute(solver, exec, &spec, (activity, &set.hidden))
}

/// A limit as the sandbox knows it; the command line knows no other names.
fn limit(of: &Ulimit) -> Option<ResourceLimit> {
    let resource = Resource::named(&of.name)?;
    Some(ResourceLimit { resource, soft: of.soft, hard: of.hard })
}

fn execute(
    solver: &Solver<'_>,
    exec: &ExecOp,
    spec: &Spec,
    (activity, hidden): (&Activity<'_>, &[Vec<u8>]),
) -> Result<(), StepError> {
    let spawned = kiln_sandbox::spawn(spec);
    let mut running = match spawned {
        Ok(running) => running,
        Err(error) => return Err(spawn_error(exec, &error)),
    };
    let registered = solver.register(running.killer());
    let mut last = LastOutput::default();
    let outputs =
        [(Stream::Stdout, running.stdout.take()), (Stream::Stderr, running.stderr.take())];
    forward(outputs, activity, (&mut last, hidden));
    let exit = running.wait();
    drop(registered);
    if let Ok(exit) = &exit {
        activity.used(Usage { peak_memory_bytes: exit.max_rss_bytes, ..counted(&exit.usage) });
    }
    if solver.is_stopped() {
        return Err(crate::error::BuildError::Canceled.into());
    }
    let exit = exit.map_err(|error| StepError::failed("sandbox-failed", error.to_string()))?;
    let how = match exit.status {
        ExitStatus::Code(0) => return Ok(()),
        // The wording that people know from BuildKit, and search for.
        ExitStatus::Code(code) => format!("did not complete successfully: exit code: {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
    };
    let mut error = StepError::failed("run-failed", format!("`{}` {how}", shown(exec)));
    if let StepError::Failed { last_output, .. } = &mut error {
        *last_output = last.lines();
    }
    Err(error)
}

/// What the kernel has counted, for the build's report.
pub(crate) fn counted(usage: &kiln_sandbox::Usage) -> Usage {
    Usage {
        user_ms: usage.user_time.as_millis() as u64,
        system_ms: usage.system_time.as_millis() as u64,
        peak_memory_bytes: None,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

fn spawn_error(exec: &ExecOp, error: &kiln_sandbox::Error) -> StepError {
    // BuildKit counts it as an exit of the command.
    let message = format!("`{}` did not complete successfully: exit code: 1: {error}", shown(exec));
    let failed = StepError::failed("run-failed", message);
    match error {
        kiln_sandbox::Error::ExecutableNotFound { .. } => {
            failed.with_help("is the program in the image, and the shell that runs it?")
        }
        kiln_sandbox::Error::Emulator { .. } => failed.with_help(
            "an emulator for one sandbox needs Linux 6.7 and user namespaces; without them, register it for all of the \
             machine: `docker run --privileged --rm tonistiigi/binfmt --install all`",
        ),
        _ => failed,
    }
}

/// The command as a person wrote it: without the shell in front.
fn shown(exec: &ExecOp) -> String {
    let text = match exec.args.as_slice() {
        [_, flag, line] if flag.starts_with('-') && flag.ends_with('c') => line.clone(),
        words => words.join(" "),
    };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim().to_owned();
    if lines.next().is_some() { format!("{first} …") } else { first }
}

/// Heredoc scripts, the host's name resolution, the host's CA bundle.
fn add_own_mounts(solver: &Solver<'_>, exec: &ExecOp, set: &mut MountSet) -> Result<(), StepError> {
    let mut own = Vec::new();
    for script in &exec.scripts {
        let contents = (script.contents.as_bytes(), script.name.as_str());
        let source = set.private_file(solver, contents, 0o755)?;
        let directory = source.parent().expect("a file has a directory").to_owned();
        let open = Permissions::from_mode(0o755);
        std::fs::set_permissions(&directory, open).at("change the mode of", &directory)?;
        own.push(Mount { destination: PathBuf::from("/dev/pipes"), kind: read_only(directory) });
    }
    for (name, source) in solver.network_files(&exec.extra_hosts)? {
        let destination = Path::new("/etc").join(name);
        own.push(Mount { destination, kind: read_only(source) });
    }
    if let Some(bundle) = &solver.request.host_ca {
        let bundle = std::fs::canonicalize(bundle).at("read", bundle)?;
        own.push(Mount { destination: PathBuf::from(HOST_CA_PATH), kind: read_only(bundle) });
        let apt = format!("Acquire::https::CAInfo \"{HOST_CA_PATH}\";\n");
        let source = set.private_file(solver, (apt.as_bytes(), "apt.conf"), 0o644)?;
        let destination = PathBuf::from("/run/kiln/apt.conf");
        own.push(Mount { destination, kind: read_only(source) });
    }
    // The user's own mounts come last, so that they win.
    own.append(&mut set.mounts);
    set.mounts = own;
    Ok(())
}

fn environment(
    solver: &Solver<'_>,
    exec: &ExecOp,
    set: &MountSet,
    user: &ProcessUser,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut define = |name: &str, value: &str| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value.to_owned()));
    };
    define("PATH", DEFAULT_PATH);
    define("HOME", &user.home);
    if solver.request.host_ca.is_some() {
        for name in HOST_CA_VARIABLES {
            define(name, HOST_CA_PATH);
        }
        define("APT_CONFIG", "/run/kiln/apt.conf");
    }
    for (name, value) in exec.env.iter().chain(&exec.proxy_env).chain(&set.env) {
        // An empty home is none (runc).
        if name != "HOME" || !value.is_empty() {
            define(name, value);
        }
    }
    env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Passes output on as it comes, secrets hidden, until both pipes are closed.
fn forward(
    outputs: [(Stream, Option<OwnedFd>); 2],
    activity: &Activity<'_>,
    (last, hidden): (&mut LastOutput, &[Vec<u8>]),
) {
    let mut pipes: Vec<(Stream, OwnedFd, Redactor)> = outputs
        .into_iter()
        .filter_map(|(stream, fd)| Some((stream, fd?, Redactor::new(hidden))))
        .collect();
    let mut buffer = vec![0; 64 * 1024];
    while !pipes.is_empty() {
        let mut polled: Vec<rustix::event::PollFd<'_>> = pipes
            .iter()
            .map(|(_, fd, _)| rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN))
            .collect();
        if rustix::event::poll(&mut polled, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        let mut closed = Vec::new();
        for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            let (stream, fd, redactor) = &mut pipes[index];
            let (text, ended) = match rustix::io::read(&*fd, &mut buffer) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) | Err(_) => (redactor.finish(), true),
                Ok(count) => (redactor.push(&buffer[..count]), false),
            };
            if !text.is_empty() {
                last.push(&text);
                activity.log(*stream, &text);
            }
            if ended {
                closed.push(index);
            }
        }
        for index in closed.into_iter().rev() {
            pipes.remove(index);
        }
    }
}

/// The last lines of a command's output.
#[derive(Debug, Default)]
struct LastOutput {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl LastOutput {
    fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.add(&line);
        }
        // A progress bar that never ends its line must not fill the memory.
        let surplus = self.partial.len().saturating_sub(4096);
        self.partial.drain(..surplus);
    }

    fn add(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
        if text.is_empty() {
            return;
        }
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    fn lines(mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.partial);
        self.add(&rest);
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pieces: &[&str]) -> Vec<String> {
        let mut output = LastOutput::default();
        for piece in pieces {
            output.push(piece.as_bytes());
        }
        output.lines()
    }

    #[test]
    fn the_last_lines_are_kept_as_a_terminal_would_show_them() {
        assert_eq!(last(&["a\nb", "c\n\n  \n", "d"]), ["a", "bc", "d"]);
        assert_eq!(last(&["10%\r20%\r100%\n", "done\r\n"]), ["100%", "done"]);
        let many: String = (0..100).map(|n| n.to_string() + "\n").collect();
        let kept = last(&[&many]);
        assert_eq!((kept.len(), kept[0].as_str()), (LAST_LINES, "88"));
        let long = "x".repeat(100_000);
        assert_eq!(last(&[&long]), ["x".repeat(4096)]);
    }
}
