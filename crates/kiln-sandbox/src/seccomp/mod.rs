//! The system call filter of a RUN: Docker's default profile as classic BPF.
//!
//! The profile is an allow list with a few rules on arguments; everything else fails with `EPERM`, and calls newer than
//! the table with `ENOSYS`, so that programs fall back to older ones. The filter is a binary search over ranges of
//! numbers with the same [`Verdict`]: the kernel plays a new filter once per system call number when it is installed,
//! so the length of the path through it is start-up time of every RUN.
//!
//! Two architectures are served by one program: the machine's own and, on `x86_64`, 32-bit x86 (i386 images and tools
//! run). The x32 ABI and 32-bit ARM get `ENOSYS` for everything. It does not filter `socketcall`'s address families:
//! they lie behind a pointer, as in Docker.
//!
//! Follows: seccomp(2), `linux/seccomp.h`, `linux/bpf_common.h`, Docker's default seccomp profile.

mod bpf;
mod table;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("there is no table of system calls for this architecture");

pub(crate) use bpf::Instruction;

use table::{ALLOWED, NONE, Row};

/// `AUDIT_ARCH_*` of linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;

/// What the filter answers to one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The call goes through.
    Allow,
    /// `EPERM`: known, and not for a build step.
    Deny,
    /// `ENOSYS`: as on a kernel without it, so that callers fall back.
    Missing,
    /// Allowed when the first argument has none of the namespace flags.
    CloneFlags,
    /// Allowed for the execution domains that only change what `uname` says.
    Personality,
    /// Allowed for all address families but `AF_ALG` and `AF_VSOCK`.
    SocketFamily,
}

/// One architecture's profile: verdicts of ranges of numbers, ascending, from 0 to the end of the number space.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    audit_arch: u32,
    /// First number of each range and what holds from there on.
    ranges: Vec<(u32, Verdict)>,
}

impl Profile {
    /// The verdict for one system call number.
    #[cfg(test)]
    fn verdict(&self, number: u32) -> Verdict {
        let after = self.ranges.partition_point(|(start, _)| *start <= number);
        self.ranges[after - 1].1
    }
}

/// An architecture's number of a row, and its numbers of the calls with rules of their own.
struct Architecture {
    audit_arch: u32,
    number: fn(&Row) -> u32,
    clone: u32,
    personality: u32,
    socket: u32,
}

/// The same number everywhere (all calls since 424 have one).
const CLONE3: u32 = 435;

const X86_64: Architecture = Architecture {
    audit_arch: AUDIT_ARCH_X86_64,
    number: |row| row.x86_64,
    clone: 56,
    personality: 135,
    socket: 41,
};
const X86: Architecture = Architecture {
    audit_arch: AUDIT_ARCH_I386,
    number: |row| row.x86,
    clone: 120,
    personality: 136,
    socket: 359,
};
const AARCH64: Architecture = Architecture {
    audit_arch: AUDIT_ARCH_AARCH64,
    number: |row| row.aarch64,
    clone: 220,
    personality: 92,
    socket: 198,
};

/// The profile of one architecture.
fn profile(architecture: &Architecture) -> Profile {
    let mut verdicts: Vec<(u32, Verdict)> = ALLOWED
        .iter()
        .map(|row| ((architecture.number)(row), Verdict::Allow))
        .filter(|(number, _)| *number != NONE)
        .collect();
    verdicts.push((architecture.clone, Verdict::CloneFlags));
    verdicts.push((architecture.personality, Verdict::Personality));
    verdicts.push((architecture.socket, Verdict::SocketFamily));
    verdicts.push((CLONE3, Verdict::Missing));
    verdicts.sort_unstable_by_key(|(number, _)| *number);

    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |start: u32, verdict: Verdict| match ranges.last() {
        Some((_, last)) if *last == verdict => {}
        _ => ranges.push((start, verdict)),
    };
    let mut next = 0;
    for (number, verdict) in verdicts {
        if number > next {
            push(next, Verdict::Deny);
        }
        push(number, verdict);
        next = number + 1;
    }
    push(next, Verdict::Missing);
    Profile { audit_arch: architecture.audit_arch, ranges }
}

/// The filter for the machine that this program was built for.
pub(crate) fn default_filter() -> Vec<Instruction> {
    let profiles = if cfg!(target_arch = "aarch64") {
        vec![profile(&AARCH64)]
    } else {
        vec![profile(&X86_64), profile(&X86)]
    };
    bpf::compile(&profiles)
}

#[cfg(test)]
mod tests;
