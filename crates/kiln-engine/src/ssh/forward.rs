//! The socket that a command gets in the place of an agent's.
//!
//! Format: messages of the SSH agent protocol (draft-ietf-sshm-ssh-agent), a length of four bytes,
//! big-endian, then the message, whose first byte is its kind. A question has one answer. Questions
//! other than listing keys and signing are answered with failure here: a command must not add,
//! remove or lock keys of the user's.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{JoinHandle, scope};

use rustix::event::{PollFd, PollFlags, poll};

use crate::solve::lock;

/// `SSH_AGENT_FAILURE`
const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`
const ALLOWED: [u8; 2] = [11, 13];
/// What OpenSSH takes for a message that is too long.
const LONGEST_BYTES: usize = 256 * 1024;

/// An agent that is reachable through a listener as long as this value lives.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// Its end is the sign to stop.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarded {
    /// Forwards to the agent that listens at `agent`; it is connected to once for each client.
    ///
    /// # Errors
    /// No descriptors or threads are left.
    pub(crate) fn start(listener: UnixListener, agent: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("ssh".to_owned())
            .spawn(move || serve(&listener, &stopped, &agent))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has closed its sockets too.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, stopped: &UnixStream, agent: &Path) {
    let open: Mutex<BTreeMap<u64, [UnixStream; 2]>> = Mutex::default();
    scope(|scope| {
        for number in 0.. {
            if !wait(listener, stopped) {
                break;
            }
            let Ok((client, _)) = listener.accept() else { break };
            // The client sees the end of the connection.
            let Ok(agent) = UnixStream::connect(agent) else { continue };
            let (Ok(first), Ok(second)) = (client.try_clone(), agent.try_clone()) else { continue };
            lock(&open).insert(number, [first, second]);
            let open = &open;
            scope.spawn(move || {
                // Whoever failed has closed its end; there is nobody to tell.
                let _ = relay(client, agent);
                lock(open).remove(&number);
            });
        }
        for stream in lock(&open).values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// Waits for a client; false when it is time to stop.
fn wait(listener: &UnixListener, stopped: &UnixStream) -> bool {
    loop {
        let mut polled =
            [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) if !polled[1].revents().is_empty() => return false,
            Ok(_) => return true,
        }
    }
}

/// Passes questions and answers until one side ends.
fn relay(mut client: UnixStream, mut agent: UnixStream) -> io::Result<()> {
    loop {
        let question = read_message(&mut client)?;
        let answer = match question.first() {
            Some(kind) if ALLOWED.contains(kind) => {
                write_message(&mut agent, &question)?;
                read_message(&mut agent)?
            }
            _ => vec![FAILURE],
        };
        write_message(&mut client, &answer)?;
    }
}

fn read_message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut framed = (message.len() as u32).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    to.write_all(&framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every question with itself, and says of each client how many
    /// questions it had.
    fn echo(listener: UnixListener, clients: usize) -> JoinHandle<Vec<usize>> {
        std::thread::spawn(move || {
            let serve = |mut stream: UnixStream| {
                let mut count = 0;
                while let Ok(message) = read_message(&mut stream) {
                    count += 1;
                    write_message(&mut stream, &message).unwrap();
                }
                count
            };
            (0..clients).map(|_| serve(listener.accept().unwrap().0)).collect()
        })
    }

    fn ask(stream: &mut UnixStream, question: &[u8]) -> io::Result<Vec<u8>> {
        write_message(stream, question)?;
        read_message(stream)
    }

    #[test]
    fn keys_are_listed_and_used_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (agent_at, at) = (directory.path().join("agent"), directory.path().join("s"));
        let agent = echo(UnixListener::bind(&agent_at).unwrap(), 2);
        let forwarded = Forwarded::start(UnixListener::bind(&at).unwrap(), agent_at).unwrap();
        let mut first = UnixStream::connect(&at).unwrap();
        assert_eq!(ask(&mut first, &[11]).unwrap(), [11]);
        assert_eq!(ask(&mut first, &[13, 1, 2]).unwrap(), [13, 1, 2]);
        for refused in [17, 18, 19, 22, 23, 25, 27] {
            assert_eq!(ask(&mut first, &[refused, 0]).unwrap(), [FAILURE]);
        }
        assert_eq!(ask(&mut first, &[]).unwrap(), [FAILURE]);
        drop(first);
        let mut second = UnixStream::connect(&at).unwrap();
        assert_eq!(ask(&mut second, &[11]).unwrap(), [11]);
        // The end of the step ends what is connected, and nobody answers any more.
        drop(forwarded);
        assert!(ask(&mut second, &[11]).is_err());
        assert!(UnixStream::connect(&at).is_err());
        assert_eq!(agent.join().unwrap(), [2, 1]);
    }

    #[test]
    fn a_message_that_is_too_long_ends_the_connection() {
        let directory = tempfile::tempdir().unwrap();
        let (agent_at, at) = (directory.path().join("agent"), directory.path().join("s"));
        let agent = echo(UnixListener::bind(&agent_at).unwrap(), 1);
        let _forwarded = Forwarded::start(UnixListener::bind(&at).unwrap(), agent_at).unwrap();
        let mut client = UnixStream::connect(&at).unwrap();
        client.write_all(&[255, 255, 255, 255, 11]).unwrap();
        assert!(read_message(&mut client).is_err());
        assert_eq!(agent.join().unwrap(), [0]);
    }
}
