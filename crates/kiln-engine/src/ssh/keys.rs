//! Private keys as an agent: the user's own `ssh-agent`, which ends with the build.
//!
//! The agent's life hangs on a shell that waits for the end of its standard input: when kiln ends,
//! however it ends, the shell ends the agent. Keys are handed over as text, so that the modes of
//! their files do not matter (as with BuildKit); nobody is asked for a passphrase.

use std::any::Any;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::SshError;

/// Says that the agent listens, waits, ends it.
const KEEPER: &str = "echo; cat > /dev/null; kill \"$SSH_AGENT_PID\"";

/// Longest file that is taken for a key.
const LONGEST_KEY_BYTES: u64 = 100 * 1024;

/// A running agent.
pub(super) struct KeyAgent {
    pub(super) socket: PathBuf,
    keeper: Child,
    /// The socket's directory, for as long as there is one.
    _directory: Box<dyn Any + Send>,
}

impl std::fmt::Debug for KeyAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAgent").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl KeyAgent {
    /// Starts an agent with keys, its socket in `directory`.
    pub(super) fn start(
        directory: &Path,
        keys: &[PathBuf],
        keeper: Box<dyn Any + Send>,
    ) -> Result<Self, SshError> {
        let socket = directory.join("agent");
        let mut child = Command::new("ssh-agent")
            .arg("-a")
            .arg(&socket)
            .args(["sh", "-c", KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| SshError::Program { program: "ssh-agent", source })?;
        let mut listens = String::new();
        let output = child.stdout.take().map(BufReader::new);
        let read = output.map(|mut output| output.read_line(&mut listens));
        let agent = Self { socket, keeper: child, _directory: keeper };
        if !matches!(read, Some(Ok(1..))) {
            return Err(SshError::NoAgent);
        }
        for key in keys {
            agent.add(key)?;
        }
        Ok(agent)
    }

    fn add(&self, path: &Path) -> Result<(), SshError> {
        let unreadable = |source| SshError::Read { path: path.to_owned(), source };
        let mut key = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(LONGEST_KEY_BYTES).read_to_end(&mut key).map_err(unreadable)?;
        let no_program = |source| SshError::Program { program: "ssh-add", source };
        let mut child = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &self.socket)
            // Whoever would ask for a passphrase gets none.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(no_program)?;
        if let Some(mut input) = child.stdin.take() {
            // What ssh-add has against it, it says itself.
            let _ = input.write_all(&key);
        }
        let output = child.wait_with_output().map_err(no_program)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let reason = if said.is_empty() {
            "it needs a passphrase; add it to an agent and forward that".to_owned()
        } else {
            said.join("; ")
        };
        Err(SshError::Key { path: path.to_owned(), reason })
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends the agent and then itself.
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn run(program: &str, args: &[&str], socket: &Path) -> Option<(bool, String)> {
        let output = Command::new(program).args(args).env("SSH_AUTH_SOCK", socket).output().ok()?;
        Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    #[test]
    fn keys_are_held_as_long_as_the_agent_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (key, locked) = (path("key"), path("locked"));
        let generate = |file: &Path, pass: &str| {
            let file = file.to_str().unwrap();
            run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-C", "mine", "-N", pass, "-f", file],
                file.as_ref(),
            )
        };
        // A machine without OpenSSH has nothing to test.
        if generate(&key, "").is_none() {
            return;
        }
        generate(&locked, "secret").unwrap();
        // BuildKit does not look at who else may read a key.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let agent = KeyAgent::start(directory.path(), &[key], Box::new(())).unwrap();
        let (listed, keys) = run("ssh-add", &["-L"], &agent.socket).unwrap();
        assert!(listed && keys.starts_with("ssh-ed25519 "), "{keys}");
        let refused = agent.add(&locked).unwrap_err().to_string();
        assert!(refused.starts_with("failed to add ") && refused.contains("locked"), "{refused}");
        std::fs::write(path("none"), "no key").unwrap();
        assert!(matches!(agent.add(&path("none")), Err(SshError::Key { .. })));
        assert!(matches!(agent.add(&path("missing")), Err(SshError::Read { .. })));
        let socket = agent.socket.clone();
        assert!(UnixStream::connect(&socket).is_ok());
        drop(agent);
        while UnixStream::connect(&socket).is_ok() {
            std::thread::yield_now();
        }
    }
}
