//! Root without root: kiln moves itself into a user namespace, once, before it starts its first thread.
//!
//! [`enter`] does nothing for uid 0. For any other user it makes a user and a mount namespace of its own in which that user
//! is root. The process stays the same one (no re-execution, no parent that would have to pass signals on): a helper is
//! forked first and stays outside, because `newuidmap` and `newgidmap` have their privilege only there; it maps the user's
//! subordinate ids of `/etc/subuid` and `/etc/subgid` into the namespace.
//!
//! Without subordinate ids, or without these tools, the namespace has one id: root, which is the user. Most images build
//! like that; what needs another user or group does not.
//!
//! Follows: `user_namespaces(7)`, newuidmap(1), subuid(5).

use std::fmt;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::error::Error;
use crate::setup::Mode;
use crate::spec::Process;
use crate::sys::{self, Fork};

/// Inode of the first user namespace of a boot (`PROC_USER_INIT_INO` of the kernel).
const INITIAL_NAMESPACE_INODE: u64 = 0xefff_fffd;

/// Whose rights kiln has, after [`enter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Root of the initial user namespace.
    RealRoot,
    /// Root of a user namespace that was there before kiln, e.g. a container's or `unshare -r`'s.
    NamespaceRoot,
    /// Root of kiln's own user namespace with `count` ids besides root.
    Subordinate {
        /// Users (and groups) besides root.
        count: u32,
    },
    /// Root of kiln's own user namespace, and no other id: files of other owners can't be made.
    SingleId {
        /// Why there are no more.
        reason: SingleIdReason,
    },
}

/// Why a user namespace has one id only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SingleIdReason {
    /// The user has no line in this file.
    NoSubordinateIds {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// The tool could not be run, or refused.
    MappingFailed {
        /// `newuidmap` or `newgidmap`.
        tool: &'static str,
        /// What it said.
        message: String,
    },
}

impl fmt::Display for SingleIdReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSubordinateIds { file } => {
                write!(formatter, "{file} has no range for this user")
            }
            Self::MappingFailed { tool, message } => write!(formatter, "{tool}: {message}"),
        }
    }
}

/// One mapped range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// Makes the process root, in a user namespace if it must. Call it first in `main`.
///
/// # Errors
/// [`Error::Threads`] when there is more than one thread, [`Error::UserNamespace`] when the kernel does not allow one.
pub fn enter() -> Result<Identity, Error> {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        return Ok(match mode()? {
            Mode::Root => Identity::RealRoot,
            Mode::UserNamespace => Identity::NamespaceRoot,
        });
    }
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(Error::system("read /proc/self/task"))?
        .count();
    if threads != 1 {
        return Err(Error::Threads { threads });
    }
    let gid = rustix::process::getegid().as_raw();
    let ranges = subordinate_ranges(uid);
    let mapped = match ranges {
        Ok(ranges) => unshare_with_helper([uid, gid], ranges)?,
        Err(reason) => {
            unshare()?;
            Err(reason)
        }
    };
    match mapped {
        Ok(count) => Ok(Identity::Subordinate { count }),
        Err(reason) => {
            map_single_id(uid, gid).map_err(Error::system("map the user into its namespace"))?;
            Ok(Identity::SingleId { reason })
        }
    }
}

fn unshare() -> Result<(), Error> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
        .map_err(|source| Error::UserNamespace { hint: crate::probe::restriction(), source })
}

/// Unshares, while a helper that stays outside maps `ids` (own user and group) and `ranges`.
fn unshare_with_helper(
    ids: [u32; 2],
    ranges: [Range; 2],
) -> Result<Result<u32, SingleIdReason>, Error> {
    let (mut go_reader, go_writer) = io::pipe().map_err(Error::system("pipe"))?;
    let (mut answer_reader, mut answer_writer) = io::pipe().map_err(Error::system("pipe"))?;
    let target = rustix::process::getpid().as_raw_nonzero().to_string();
    let child = match sys::fork().map_err(Error::system("fork"))? {
        Fork::Child => {
            drop((go_writer, answer_reader));
            let mut go = [0];
            // End of file means that the parent could not unshare.
            if go_reader.read_exact(&mut go).is_ok() {
                let answer = map_from_outside(&target, ids, ranges);
                let _ = answer_writer.write_all(answer.as_bytes());
            }
            sys::exit(0)
        }
        Fork::Parent { child } => child,
    };
    drop((go_reader, answer_writer));
    let unshared = unshare();
    if unshared.is_ok() {
        let mut writer = go_writer;
        writer.write_all(b"g").map_err(Error::system("wake the mapping helper"))?;
    } else {
        drop(go_writer);
    }
    let mut answer = String::new();
    let read = answer_reader.read_to_string(&mut answer);
    sys::reap(child).map_err(Error::system("wait for the mapping helper"))?;
    unshared?;
    read.map_err(Error::system("read from the mapping helper"))?;
    Ok(match answer.split_once(": ") {
        None => Ok(ranges[0].count.min(ranges[1].count)),
        Some((tool, message)) => {
            let tool = if tool == "newgidmap" { "newgidmap" } else { "newuidmap" };
            Err(SingleIdReason::MappingFailed { tool, message: message.to_owned() })
        }
    })
}

/// Runs in the helper. An empty answer means that both maps are written.
fn map_from_outside(target: &str, ids: [u32; 2], ranges: [Range; 2]) -> String {
    // Groups first: a failure then leaves both maps to be written by the process itself.
    for (tool, index) in [("newgidmap", 1), ("newuidmap", 0)] {
        let Range { start, count } = ranges[index];
        let numbers = [0, ids[index], 1, 1, start, count].map(|number| number.to_string());
        let output = Command::new(tool).arg(target).args(&numbers).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                return format!("{tool}: {}", said.trim().trim_start_matches(&format!("{tool}: ")));
            }
            Err(error) => return format!("{tool}: {error}"),
        }
    }
    String::new()
}

/// Maps root to the user itself, from inside. A map that a tool has written already stays.
fn map_single_id(uid: u32, gid: u32) -> io::Result<()> {
    if is_unmapped("/proc/self/gid_map")? {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    if is_unmapped("/proc/self/uid_map")? {
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    Ok(())
}

fn is_unmapped(file: &str) -> io::Result<bool> {
    Ok(std::fs::read_to_string(file)?.trim().is_empty())
}

/// The user's first range in each of the two files.
fn subordinate_ranges(uid: u32) -> Result<[Range; 2], SingleIdReason> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let range = |file: &'static str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        find_range(&text, uid, name).ok_or(SingleIdReason::NoSubordinateIds { file })
    };
    Ok([range("/etc/subuid")?, range("/etc/subgid")?])
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The largest of the user's lines `name-or-uid:start:count`.
fn find_range(text: &str, uid: u32, name: Option<&str>) -> Option<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let is_own = Some(owner) == name || owner.parse() == Ok(uid);
            let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (is_own && count > 0).then_some(Range { start, count })
        })
        .max_by_key(|range| range.count)
}

/// Which ids the process can use, and what its namespace allows.
#[derive(Debug)]
pub(crate) struct IdMaps {
    pub(crate) mode: Mode,
    pub(crate) groups_settable: bool,
    users: Vec<Range>,
    groups: Vec<Range>,
}

impl IdMaps {
    /// Refuses ids that have no counterpart outside.
    pub(crate) fn check(&self, process: &Process) -> Result<(), Error> {
        let mapped = |ranges: &[Range], id: u32| {
            ranges.iter().any(|range| id >= range.start && id - range.start < range.count)
        };
        if !mapped(&self.users, process.uid) {
            return Err(Error::IdNotMapped { kind: "user", id: process.uid });
        }
        for id in process.groups.iter().chain([&process.gid]) {
            if !mapped(&self.groups, *id) {
                return Err(Error::IdNotMapped { kind: "group", id: *id });
            }
        }
        Ok(())
    }
}

/// The maps of the namespace that the process is in. Read once: [`enter`] comes before the first sandbox.
pub(crate) fn current_id_maps() -> Result<&'static IdMaps, Error> {
    static MAPS: OnceLock<IdMaps> = OnceLock::new();
    if let Some(maps) = MAPS.get() {
        return Ok(maps);
    }
    let maps = read_id_maps()?;
    Ok(MAPS.get_or_init(|| maps))
}

fn read_id_maps() -> Result<IdMaps, Error> {
    let read = |file: &'static str| {
        std::fs::read_to_string(file).map_err(Error::system("read the user namespace's maps"))
    };
    let setgroups = std::fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
    Ok(IdMaps {
        mode: mode()?,
        groups_settable: setgroups.trim() != "deny",
        users: parse_map(&read("/proc/self/uid_map")?),
        groups: parse_map(&read("/proc/self/gid_map")?),
    })
}

/// Ranges of ids inside of the namespace; each line is `inside outside count`.
fn parse_map(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            match (fields.next()?, fields.nth(1)?) {
                (Ok(start), Ok(count)) => Some(Range { start, count }),
                _ => None,
            }
        })
        .collect()
}

/// Where a sandbox would be started from.
///
/// # Errors
/// `/proc` is not mounted.
pub fn mode() -> Result<Mode, Error> {
    let stat = rustix::fs::stat(Path::new("/proc/self/ns/user"))
        .map_err(Error::system("stat /proc/self/ns/user"))?;
    Ok(if stat.st_ino == INITIAL_NAMESPACE_INODE { Mode::Root } else { Mode::UserNamespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 1001), None);
        let subuid = "bob:100000:65536\n1000:200000:10\nann:300000:65536\n";
        let range =
            |uid, name| find_range(subuid, uid, name).map(|range| (range.start, range.count));
        assert_eq!(range(1000, Some("ann")), Some((300_000, 65_536)));
        assert_eq!(range(1000, None), Some((200_000, 10)));
        assert_eq!(range(1001, Some("cid")), None);
    }

    #[test]
    fn maps_are_read_as_the_kernel_prints_them() {
        let ranges =
            parse_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(ranges, [Range { start: 0, count: 1 }, Range { start: 1, count: 65_536 }]);
        let full = parse_map("         0          0 4294967295\n");
        assert_eq!(full, [Range { start: 0, count: u32::MAX }]);
    }

    #[test]
    fn a_multithreaded_process_of_root_needs_no_namespace() {
        // Tests run with many threads; as root nothing has to be entered, as anyone else it is refused.
        match enter() {
            Ok(identity) => {
                assert!(matches!(identity, Identity::RealRoot | Identity::NamespaceRoot));
            }
            Err(error) => assert!(matches!(error, Error::Threads { .. })),
        }
    }
}
