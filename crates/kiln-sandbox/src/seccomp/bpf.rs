//! Compiles profiles to classic BPF.
//!
//! ```text
//! load arch
//! for each profile:   if arch == its own: load number, binary search over its ranges → a verdict's block
//! return ENOSYS
//! ```
//!
//! A leaf of the search *is* its verdict's block (one `return`, or a few tests of the first argument). Jumps of classic
//! BPF reach 255 instructions; a longer one goes over an unconditional jump.

use super::{Profile, Verdict};

/// One instruction of classic BPF, laid out as `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u16,
    /// Instructions to skip when a jump's test holds.
    pub(crate) jump_true: u8,
    /// Instructions to skip when it does not.
    pub(crate) jump_false: u8,
    /// Operand.
    pub(crate) operand: u32,
}

/// Load a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// Jump always.
pub(super) const JUMP: u16 = 0x05;
/// Jump when equal.
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// Jump when greater or equal (unsigned).
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
/// Jump when any bit of the operand is set.
pub(super) const JUMP_ANY_BIT: u16 = 0x45;
/// Return the operand.
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`; arguments are 64 bit, and both machines are little endian.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGUMENT_0: u32 = 16;

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_ERRNO` with the two error numbers of the profile.
pub(super) const RETURN_ALLOW: u32 = 0x7fff_0000;
pub(super) const RETURN_EPERM: u32 = 0x0005_0001;
pub(super) const RETURN_ENOSYS: u32 = 0x0005_0026;

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// `PER_LINUX` and `PER_LINUX32`, each with and without `UNAME26`, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Address families that reach the host around the network namespace, or kernel code of no use to a build.
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;

fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

fn ret(value: u32) -> Instruction {
    instruction(RETURN, 0, 0, value)
}

/// One program for all `profiles`, the most frequent architecture first.
pub(super) fn compile(profiles: &[Profile]) -> Vec<Instruction> {
    let mut program = vec![instruction(LOAD, 0, 0, OFFSET_ARCH)];
    for profile in profiles {
        let mut body = vec![instruction(LOAD, 0, 0, OFFSET_NUMBER)];
        body.extend(search(&profile.ranges));
        program.push(instruction(JUMP_EQUAL, 1, 0, profile.audit_arch));
        program.push(instruction(JUMP, 0, 0, body.len() as u32));
        program.extend(body);
    }
    program.push(ret(RETURN_ENOSYS));
    program
}

/// Binary search over `ranges`; the number is in the accumulator.
fn search(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    if let [(_, verdict)] = ranges {
        return block(*verdict);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let below = search(left);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![instruction(JUMP_GREATER_EQUAL, distance, 0, right[0].0)],
        Err(_) => vec![
            instruction(JUMP_GREATER_EQUAL, 0, 1, right[0].0),
            instruction(JUMP, 0, 0, below.len() as u32),
        ],
    };
    code.extend(below);
    code.extend(search(right));
    code
}

/// The code that answers with one verdict. The kernel takes 32 bits of these arguments, so only those are looked at.
fn block(verdict: Verdict) -> Vec<Instruction> {
    let argument = instruction(LOAD, 0, 0, OFFSET_ARGUMENT_0);
    match verdict {
        Verdict::Allow => vec![ret(RETURN_ALLOW)],
        Verdict::Deny => vec![ret(RETURN_EPERM)],
        Verdict::Missing => vec![ret(RETURN_ENOSYS)],
        Verdict::CloneFlags => vec![
            argument,
            instruction(JUMP_ANY_BIT, 1, 0, NAMESPACE_FLAGS),
            ret(RETURN_ALLOW),
            ret(RETURN_EPERM),
        ],
        Verdict::SocketFamily => vec![
            argument,
            instruction(JUMP_EQUAL, 2, 0, AF_ALG),
            instruction(JUMP_EQUAL, 1, 0, AF_VSOCK),
            ret(RETURN_ALLOW),
            ret(RETURN_EPERM),
        ],
        Verdict::Personality => {
            let mut code = vec![argument];
            for (index, value) in PERSONALITIES.iter().enumerate() {
                // Over the remaining tests and the refusal.
                let distance = (PERSONALITIES.len() - index) as u8;
                code.push(instruction(JUMP_EQUAL, distance, 0, *value));
            }
            code.push(ret(RETURN_EPERM));
            code.push(ret(RETURN_ALLOW));
            code
        }
    }
}
