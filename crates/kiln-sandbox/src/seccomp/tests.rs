//! The compiled filter is interpreted here and compared with the profile that it was compiled from.

use super::bpf::{
    JUMP, JUMP_ANY_BIT, JUMP_EQUAL, JUMP_GREATER_EQUAL, LOAD, OFFSET_ARCH, OFFSET_ARGUMENT_0,
    OFFSET_NUMBER, RETURN, RETURN_ALLOW, RETURN_ENOSYS, RETURN_EPERM,
};
use super::*;

/// Runs `program` as the kernel would; returns its answer and the number of instructions executed.
fn interpret(program: &[Instruction], arch: u32, number: u32, argument: u64) -> (u32, usize) {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1.. {
        let instruction = program[at];
        at += 1;
        let jump = |holds: bool| {
            usize::from(if holds { instruction.jump_true } else { instruction.jump_false })
        };
        match instruction.code {
            LOAD => {
                accumulator = match instruction.operand {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCH => arch,
                    OFFSET_ARGUMENT_0 => argument as u32,
                    other => panic!("load of offset {other}"),
                }
            }
            JUMP => at += instruction.operand as usize,
            JUMP_EQUAL => at += jump(accumulator == instruction.operand),
            JUMP_GREATER_EQUAL => at += jump(accumulator >= instruction.operand),
            JUMP_ANY_BIT => at += jump(accumulator & instruction.operand != 0),
            RETURN => return (instruction.operand, steps),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    unreachable!("the program ends with a return")
}

const ARCHITECTURES: [Architecture; 3] = [X86_64, X86, AARCH64];

#[test]
fn every_number_gets_the_verdict_of_the_table() {
    for architecture in ARCHITECTURES {
        let profile = profile(&architecture);
        let program = bpf::compile(std::slice::from_ref(&profile));
        for number in 0..1024 {
            let allowed = ALLOWED.iter().any(|row| (architecture.number)(row) == number);
            let verdict = profile.verdict(number);
            assert_eq!(verdict == Verdict::Allow, allowed, "number {number}");
            let expected = match verdict {
                // With an argument of 0: no clone flags, PER_LINUX, AF_UNSPEC.
                Verdict::Allow
                | Verdict::CloneFlags
                | Verdict::Personality
                | Verdict::SocketFamily => RETURN_ALLOW,
                Verdict::Deny => RETURN_EPERM,
                Verdict::Missing => RETURN_ENOSYS,
            };
            let (answer, _) = interpret(&program, architecture.audit_arch, number, 0);
            assert_eq!(answer, expected, "number {number}");
        }
    }
}

#[test]
fn arguments_decide_for_clone_personality_and_socket() {
    for architecture in ARCHITECTURES {
        let program = bpf::compile(&[profile(&architecture)]);
        let answer =
            |number, argument| interpret(&program, architecture.audit_arch, number, argument).0;
        // CLONE_THREAD and friends, then each namespace flag.
        assert_eq!(answer(architecture.clone, 0x003d_0f00), RETURN_ALLOW);
        for flag in [17, 25, 26, 27, 28, 29, 30] {
            assert_eq!(answer(architecture.clone, 1 << flag), RETURN_EPERM, "clone bit {flag}");
        }
        for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(answer(architecture.personality, domain), RETURN_ALLOW);
        }
        // ADDR_NO_RANDOMIZE
        assert_eq!(answer(architecture.personality, 0x004_0000), RETURN_EPERM);
        for family in [1, 2, 10, 16, 17, 37, 39, 41] {
            assert_eq!(answer(architecture.socket, family), RETURN_ALLOW, "family {family}");
        }
        assert_eq!(answer(architecture.socket, 38), RETURN_EPERM);
        assert_eq!(answer(architecture.socket, 40), RETURN_EPERM);
        // The kernel takes an int: high bits must not hide the family.
        assert_eq!(answer(architecture.socket, 0x1_0000_0028), RETURN_EPERM);
        assert_eq!(answer(CLONE3, 0), RETURN_ENOSYS);
    }
}

#[test]
fn foreign_architectures_do_not_exist() {
    let program = bpf::compile(&[profile(&X86_64), profile(&X86)]);
    // 32-bit ARM's `read`, and x32's.
    assert_eq!(interpret(&program, 0x4000_0028, 3, 0).0, RETURN_ENOSYS);
    assert_eq!(interpret(&program, AUDIT_ARCH_X86_64, 0x4000_0000, 0).0, RETURN_ENOSYS);
    // The same number means another call on the second architecture: 1 is `write`, and `exit`; 56 is `clone`, and `mpx`.
    assert_eq!(interpret(&program, AUDIT_ARCH_I386, 56, 0).0, RETURN_EPERM);
    assert_eq!(interpret(&program, AUDIT_ARCH_X86_64, 56, 0).0, RETURN_ALLOW);
}

#[test]
fn the_filter_is_short() {
    let program = bpf::compile(&[profile(&X86_64), profile(&X86)]);
    // The kernel's own limit is 4096 (BPF_MAXINSNS).
    assert!(program.len() < 500, "{} instructions", program.len());
    let longest = (0..512).map(|number| interpret(&program, AUDIT_ARCH_X86_64, number, 1).1).max();
    assert!(longest < Some(20), "{longest:?} steps");
}

#[test]
fn the_table_has_what_programs_need_and_not_what_escapes() {
    let allowed = |name: &str| ALLOWED.iter().any(|row| row.name == name);
    for name in
        ["execve", "openat", "mmap", "futex", "ptrace", "seccomp", "chroot", "mknodat", "openat2"]
    {
        assert!(allowed(name), "{name}");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "io_uring_setup",
        "kexec_load",
        "reboot",
        "init_module",
    ] {
        assert!(!allowed(name), "{name}");
    }
    let mut names: Vec<_> = ALLOWED.iter().map(|row| row.name).collect();
    names.dedup();
    assert_eq!(names.len(), ALLOWED.len());
    assert!(names.is_sorted());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn numbers_agree_with_the_c_library() {
    let number = |name: &str| {
        ALLOWED.iter().find(|row| row.name == name).map(|row| libc::c_long::from(row.x86_64))
    };
    assert_eq!(number("read"), Some(libc::SYS_read));
    assert_eq!(number("execve"), Some(libc::SYS_execve));
    assert_eq!(number("openat2"), Some(libc::SYS_openat2));
    assert_eq!(number("statx"), Some(libc::SYS_statx));
    assert_eq!(i64::from(X86_64.clone), libc::SYS_clone);
    assert_eq!(i64::from(X86_64.socket), libc::SYS_socket);
    assert_eq!(i64::from(X86_64.personality), libc::SYS_personality);
    assert_eq!(i64::from(CLONE3), libc::SYS_clone3);
}

proptest::proptest! {
    /// Whatever the ranges are: also when there are so many that jumps get longer than a byte.
    #[test]
    fn the_search_finds_every_range(
        starts in proptest::collection::btree_map(1..5000_u32, 0..3_usize, 0..600),
        probes in proptest::collection::vec(0..6000_u32, 50),
    ) {
        let verdicts = [Verdict::Allow, Verdict::Deny, Verdict::Missing];
        let answers = [RETURN_ALLOW, RETURN_EPERM, RETURN_ENOSYS];
        let mut ranges = vec![(0, Verdict::Deny)];
        ranges.extend(starts.iter().map(|(start, index)| (*start, verdicts[*index])));
        let profile = Profile { audit_arch: AUDIT_ARCH_X86_64, ranges };
        let program = bpf::compile(std::slice::from_ref(&profile));
        for number in probes.into_iter().chain(starts.keys().copied()) {
            let verdict = profile.verdict(number);
            let index = verdicts.iter().position(|other| *other == verdict).unwrap();
            let (answer, _) = interpret(&program, AUDIT_ARCH_X86_64, number, 0);
            proptest::prop_assert_eq!(answer, answers[index], "number {}", number);
        }
    }
}
