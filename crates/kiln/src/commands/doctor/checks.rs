//! What follows from what was observed: pure.

use kiln_sandbox::emulation::Execution;

use super::observe::{Cgroup, Disk, Observed, Overlay};
use crate::render::format::size;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// kiln works, but not as well.
    Warning,
    /// kiln does not work, or not all of it.
    Missing,
}

/// One thing that kiln needs.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// What it is called.
    pub(super) name: String,
    /// How it is.
    pub(super) status: Status,
    /// What was seen.
    pub(super) seen: String,
    /// What kiln does without it, or as it is; shown when it is not well.
    pub(super) effect: Option<&'static str>,
    /// What the user can do.
    pub(super) todo: Option<String>,
}

impl Check {
    /// A check with what was seen.
    pub(super) fn new(name: &str, status: Status, seen: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, seen: seen.into(), effect: None, todo: None }
    }

    /// The same with what that means for kiln.
    pub(super) fn effect(mut self, text: &'static str) -> Self {
        self.effect = Some(text);
        self
    }

    /// The same with what to do.
    pub(super) fn todo(mut self, text: impl Into<String>) -> Self {
        self.todo = Some(text.into());
        self
    }
}

/// Kernel that has everything kiln uses: overlayfs in user namespaces with `userxattr`.
const GOOD_KERNEL: (u32, u32) = (5, 12);
/// Kernel with `binfmt_misc` for each user namespace.
const KERNEL_WITH_PRIVATE_BINFMT: (u32, u32) = (6, 7);
/// Free space below which a build may not get far.
const LITTLE_SPACE_BYTES: u64 = 2_000_000_000;

/// All checks, in the order in which they matter.
pub(super) fn checks(observed: &Observed) -> Vec<Check> {
    let mut checks = vec![kernel(observed), overlay(observed)];
    checks.extend(user_namespaces(observed));
    checks.push(seccomp(observed));
    checks.push(cgroup(observed));
    checks.extend(observed.disk.as_ref().map(disk));
    checks.push(store(observed));
    checks.push(cpu(observed));
    checks.push(credentials(observed));
    checks.push(emulation(observed));
    checks
}

fn kernel(observed: &Observed) -> Check {
    let seen = format!("Linux {}", observed.kernel);
    if kernel_numbers(observed) >= GOOD_KERNEL {
        return Check::new("kernel", Status::Ok, seen);
    }
    Check::new("kernel", Status::Missing, seen)
        .effect("without it kiln cannot mount layers: it uses mount_setattr of 5.12 and overlayfs with userxattr of 5.11")
        .todo("use Linux 5.12 or newer")
}

fn kernel_numbers(observed: &Observed) -> (u32, u32) {
    let mut numbers = observed.kernel.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

fn overlay(observed: &Observed) -> Check {
    let name = "overlayfs";
    match &observed.overlay {
        Overlay::Works => Check::new(name, Status::Ok, "a mount with userxattr works"),
        Overlay::NotTried => Check::new(
            name,
            Status::Ok,
            "known to the kernel; only a build can try a mount here",
        ),
        Overlay::Unknown => Check::new(name, Status::Warning, "the kernel has not loaded it")
            .effect("without it kiln cannot run steps; the first mount may load it")
            .todo("modprobe overlay"),
        Overlay::Fails(error) => {
            Check::new(name, Status::Missing, format!("a mount fails: {error}"))
                .effect("without it kiln cannot run steps")
                .todo("in a container, allow mounts (docker: `--privileged`, or a looser seccomp and AppArmor profile); else set KILN_ROOT to a local disk")
        }
    }
}

fn user_namespaces(observed: &Observed) -> Vec<Check> {
    if observed.is_root {
        let seen = "not needed: kiln runs as root";
        return vec![Check::new("user namespaces", Status::Ok, seen)];
    }
    let effect = "without it kiln can only build as root";
    let namespaces = match (observed.max_user_namespaces, observed.userns_refused_by) {
        (Some(0), _) => Check::new("user namespaces", Status::Missing, "their number is limited to 0")
            .effect(effect)
            .todo("sysctl -w user.max_user_namespaces=15000"),
        (_, Some(setting)) => {
            Check::new("user namespaces", Status::Missing, format!("refused by {setting}"))
                .effect(effect)
                .todo(match setting {
                    "kernel.unprivileged_userns_clone" => "sysctl -w kernel.unprivileged_userns_clone=1",
                    _ => "give kiln an AppArmor profile with `userns`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
                })
        }
        (None, None) => Check::new("user namespaces", Status::Missing, "the kernel has none")
            .effect(effect)
            .todo("use a kernel with CONFIG_USER_NS"),
        (Some(_), None) => Check::new("user namespaces", Status::Ok, "ordinary users may make them"),
    };
    vec![namespaces, subordinate_ids(observed), id_map_tools(observed)]
}

fn subordinate_ids(observed: &Observed) -> Check {
    let (uids, gids) = observed.subordinate_ids;
    let seen = format!("{uids} user ids, {gids} group ids");
    if uids.min(gids) >= 65_536 {
        return Check::new("subordinate ids", Status::Ok, seen);
    }
    Check::new("subordinate ids", Status::Warning, seen)
        .effect(
            "without it all files of an image belong to one user, and steps for another one fail",
        )
        .todo("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER")
}

fn id_map_tools(observed: &Observed) -> Check {
    let name = "newuidmap";
    match observed.id_map_tools {
        (true, true) => Check::new(name, Status::Ok, "newuidmap and newgidmap are there"),
        (uid, gid) => {
            let missing = [("newuidmap", uid), ("newgidmap", gid)];
            let missing = missing.iter().filter(|(_, there)| !there).map(|(name, _)| *name);
            let seen = format!("not there: {}", missing.collect::<Vec<_>>().join(", "));
            Check::new(name, Status::Warning, seen)
                .effect("without it subordinate ids cannot be used")
                .todo("install the package uidmap (Debian) or shadow-utils")
        }
    }
}

fn seccomp(observed: &Observed) -> Check {
    if observed.seccomp {
        Check::new("seccomp", Status::Ok, "filters are supported")
    } else {
        Check::new("seccomp", Status::Missing, "the kernel has no filters")
            .effect("without it steps could call any system call, so kiln does not run them")
            .todo("use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

/// kiln makes no control groups, so each is well; which one there is helps to read limits.
fn cgroup(observed: &Observed) -> Check {
    let seen = match observed.cgroup {
        Cgroup::V2 => "version 2",
        Cgroup::V1 => "version 1",
        Cgroup::None => "not mounted",
    };
    let seen = format!("{seen}; steps stay in the group that kiln is started in");
    Check::new("cgroup", Status::Ok, seen)
}

fn disk(disk: &Disk) -> Check {
    let reflink = match disk.reflink {
        Some(true) => "copies share blocks",
        Some(false) => "no reflinks, files are copied",
        None => "reflinks not tried",
    };
    let seen = format!(
        "{}: {}, {} of {} free, {reflink}",
        disk.path.display(),
        disk.file_system,
        size(disk.free_bytes),
        size(disk.total_bytes),
    );
    if matches!(disk.file_system.as_str(), "nfs" | "overlay" | "fuse") {
        return Check::new("disk", Status::Warning, seen)
            .effect("kiln is slow there, and overlayfs may refuse layers")
            .todo("set KILN_ROOT to a directory on a local disk");
    }
    if disk.free_bytes < LITTLE_SPACE_BYTES {
        return Check::new("disk", Status::Warning, seen)
            .effect("a build may end for want of space; the store stays whole")
            .todo("free some space, or set KILN_ROOT to another disk");
    }
    Check::new("disk", Status::Ok, seen)
}

fn store(observed: &Observed) -> Check {
    match &observed.store {
        None => Check::new("store", Status::Ok, "it is as it should be, or will be made"),
        Some(problem) => Check::new("store", Status::Missing, problem.clone())
            .effect("kiln cannot build before it is put right")
            .todo("kiln fsck --repair"),
    }
}

fn cpu(observed: &Observed) -> Check {
    if observed.cpu_hashes_sha256 {
        Check::new("cpu", Status::Ok, "it has instructions for sha256")
    } else {
        Check::new("cpu", Status::Warning, "it has no instructions for sha256")
            .effect("without it image digests take longer")
    }
}

fn credentials(observed: &Observed) -> Check {
    match &observed.credentials {
        Some(path) => Check::new("credentials", Status::Ok, path.display().to_string()),
        None => Check::new("credentials", Status::Ok, "none: registries are asked anonymously"),
    }
}

fn emulation(observed: &Observed) -> Check {
    let names = |wanted: fn(&Execution) -> bool| -> Vec<&str> {
        let known = observed.machines.iter().filter(|(_, execution)| wanted(execution));
        known.map(|(name, _)| name.as_str()).collect()
    };
    let direct = names(|execution| *execution == Execution::Direct);
    let emulated = names(|execution| matches!(execution, Execution::Emulated(_)));
    let mut seen = format!("RUN works for linux/{}", direct.join(", linux/"));
    if !emulated.is_empty() {
        seen.push_str(&format!(
            "; with an emulator of its own for linux/{}",
            emulated.join(", linux/")
        ));
    }
    let name = "platforms";
    if direct.len() + emulated.len() <= 1 {
        return Check::new(name, Status::Warning, seen)
            .effect("for other platforms kiln needs an emulator")
            .todo("apt-get install qemu-user-static, if you build for others");
    }
    if !emulated.is_empty() && kernel_numbers(observed) < KERNEL_WITH_PRIVATE_BINFMT {
        return Check::new(name, Status::Warning, seen)
            .effect("an emulator for one step alone needs Linux 6.7; here it has to be registered for the whole machine")
            .todo("docker run --privileged --rm tonistiigi/binfmt --install all, if you build for others");
    }
    Check::new(name, Status::Ok, seen)
}
