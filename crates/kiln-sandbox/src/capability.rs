//! Capability sets, by their numbers of linux/capability.h.
//!
//! A root command has [`DEFAULT`] in its bounding, permitted and effective set; for any other user only the bounding set
//! has it. The inheritable and ambient sets are empty: a non-empty inheritable set would let binaries with inheritable
//! file capabilities raise them (which container engines had to fix once).

use std::fmt;

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilitySet(pub u64);

/// Docker's default set, `a80425fb`: `CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
/// NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP`.
pub const DEFAULT: CapabilitySet = CapabilitySet(
    1 << 0 // CHOWN
        | 1 << 1 // DAC_OVERRIDE
        | 1 << 3 // FOWNER
        | 1 << 4 // FSETID
        | 1 << 5 // KILL
        | 1 << 6 // SETGID
        | 1 << 7 // SETUID
        | 1 << 8 // SETPCAP
        | 1 << 10 // NET_BIND_SERVICE
        | 1 << 13 // NET_RAW
        | 1 << 18 // SYS_CHROOT
        | 1 << 27 // MKNOD
        | 1 << 29 // AUDIT_WRITE
        | 1 << 31, // SETFCAP
);

impl CapabilitySet {
    /// Whether the set has `capability`.
    pub fn contains(self, capability: u32) -> bool {
        self.0 >> capability & 1 == 1
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(DEFAULT.to_string(), "00000000a80425fb");
        assert!(DEFAULT.contains(0));
        assert!(!DEFAULT.contains(21), "SYS_ADMIN");
    }
}
