//! Machines: how their programs are recognised, and what is called to run them elsewhere.
//!
//! Pure. A [`Machine`] is one CPU architecture of Linux by its name in image configs (`arm64`), with what its ELF files look
//! like, the name that QEMU has for it (`aarch64`), and a program of a few instructions that ends with its number of
//! arguments as exit code: whoever can run that program can run the machine's others, and passes arguments on unharmed.
//!
//! Follows: the ELF headers of elf(5), the system call conventions of syscall(2), and `register` of the kernel's
//! `Documentation/admin-guide/binfmt-misc.rst`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// One CPU architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// As in image configs: `arm64`.
    pub architecture: &'static str,
    /// As in names of QEMU's programs: `aarch64` of `qemu-aarch64-static`.
    pub qemu: &'static str,
    layout: Layout,
    /// `e_machine` of its ELF files.
    elf_number: u16,
    /// `e_flags`: the ABI, where it has several.
    elf_flags: u32,
    /// Ends the process with the first word of the stack, which is the number of arguments.
    exit_with_argc: Code,
}

/// Size of words and order of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Little32,
    Little64,
    Big64,
}

/// Machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Bytes(&'static [u8]),
    /// In the machine's own order of bytes.
    Words([u32; 3]),
}

const MIPS64_EXIT: Code = Code::Words([0xdfa4_0000, 0x2402_13c2, 0x0000_000c]);

/// All that are known: those that BuildKit knows.
pub const MACHINES: [Machine; 10] = [
    Machine {
        architecture: "amd64",
        qemu: "x86_64",
        layout: Layout::Little64,
        elf_number: 62,
        elf_flags: 0,
        exit_with_argc: Code::Bytes(b"\x48\x8b\x3c\x24\xb8\x3c\0\0\0\x0f\x05"),
    },
    Machine {
        architecture: "386",
        qemu: "i386",
        layout: Layout::Little32,
        elf_number: 3,
        elf_flags: 0,
        exit_with_argc: Code::Bytes(b"\x8b\x1c\x24\xb8\x01\0\0\0\xcd\x80"),
    },
    Machine {
        architecture: "arm64",
        qemu: "aarch64",
        layout: Layout::Little64,
        elf_number: 183,
        elf_flags: 0,
        exit_with_argc: Code::Words([0xf940_03e0, 0xd280_0ba8, 0xd400_0001]),
    },
    Machine {
        architecture: "arm",
        qemu: "arm",
        layout: Layout::Little32,
        elf_number: 40,
        elf_flags: 0x0500_0000,
        exit_with_argc: Code::Words([0xe59d_0000, 0xe3a0_7001, 0xef00_0000]),
    },
    Machine {
        architecture: "riscv64",
        qemu: "riscv64",
        layout: Layout::Little64,
        elf_number: 243,
        elf_flags: 0,
        exit_with_argc: Code::Words([0x0001_3503, 0x05d0_0893, 0x0000_0073]),
    },
    Machine {
        architecture: "ppc64le",
        qemu: "ppc64le",
        layout: Layout::Little64,
        elf_number: 21,
        elf_flags: 2,
        exit_with_argc: Code::Words([0xe861_0000, 0x3800_0001, 0x4400_0002]),
    },
    Machine {
        architecture: "s390x",
        qemu: "s390x",
        layout: Layout::Big64,
        elf_number: 22,
        elf_flags: 0,
        exit_with_argc: Code::Bytes(b"\xe3\x20\xf0\x00\x00\x04\x0a\x01"),
    },
    Machine {
        architecture: "mips64le",
        qemu: "mips64el",
        layout: Layout::Little64,
        elf_number: 8,
        elf_flags: 0x6000_0000,
        exit_with_argc: MIPS64_EXIT,
    },
    Machine {
        architecture: "mips64",
        qemu: "mips64",
        layout: Layout::Big64,
        elf_number: 8,
        elf_flags: 0x6000_0000,
        exit_with_argc: MIPS64_EXIT,
    },
    Machine {
        architecture: "loong64",
        qemu: "loongarch64",
        layout: Layout::Little64,
        elf_number: 258,
        elf_flags: 0x43,
        exit_with_argc: Code::Words([0x28c0_0064, 0x0381_740b, 0x002b_0000]),
    },
];

/// Where the program of [`Machine::probe_program`] is loaded; a page boundary for all page sizes.
const LOAD_ADDRESS: u64 = 0x40_0000;
const LARGEST_PAGE: u64 = 0x1_0000;

impl Machine {
    /// The machine of that name in image configs.
    pub fn named(architecture: &str) -> Option<&'static Self> {
        MACHINES.iter().find(|machine| machine.architecture == architecture)
    }

    /// Whether kiln itself was compiled for it.
    pub fn is_own(&self) -> bool {
        let own = match std::env::consts::ARCH {
            "x86" => "i386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "mips64" if cfg!(target_endian = "little") => "mips64el",
            other => other,
        };
        self.qemu == own
    }

    fn is_64_bit(&self) -> bool {
        self.layout != Layout::Little32
    }

    fn half(&self, value: u16) -> [u8; 2] {
        match self.layout {
            Layout::Big64 => value.to_be_bytes(),
            Layout::Little32 | Layout::Little64 => value.to_le_bytes(),
        }
    }

    fn word(&self, value: u32) -> [u8; 4] {
        match self.layout {
            Layout::Big64 => value.to_be_bytes(),
            Layout::Little32 | Layout::Little64 => value.to_le_bytes(),
        }
    }

    /// An address, an offset or a size: 4 or 8 bytes.
    fn long(&self, value: u64) -> Vec<u8> {
        match self.layout {
            Layout::Big64 => value.to_be_bytes().to_vec(),
            Layout::Little64 => value.to_le_bytes().to_vec(),
            Layout::Little32 => value.to_le_bytes()[..4].to_vec(),
        }
    }

    /// Class, order of bytes and version of the ELF identification.
    fn identification(&self) -> [u8; 7] {
        let class = if self.is_64_bit() { 2 } else { 1 };
        let order = if self.layout == Layout::Big64 { 2 } else { 1 };
        [0x7f, b'E', b'L', b'F', class, order, 1]
    }

    /// What is written to `register` of `binfmt_misc`, so that `interpreter` runs the machine's programs: with the file kept
    /// open (`F`: it is not looked for in the sandbox), the program's own rights (`C`, and `O` that it implies) and its own
    /// first argument (`P`).
    pub(crate) fn registration(&self, interpreter: &OsStr) -> Vec<u8> {
        let mut magic = self.identification().to_vec();
        let mut mask = vec![0xff; magic.len()];
        // ABI, its version, padding.
        magic.extend([0; 9]);
        mask.extend([0; 9]);
        // ET_EXEC and ET_DYN differ in the lowest bit.
        magic.extend(self.half(2));
        mask.extend(self.half(0xfffe));
        magic.extend(self.half(self.elf_number));
        mask.extend([0xff; 2]);
        let escaped =
            |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let mut line =
            format!(":kiln-{}:M::{}:{}:", self.qemu, escaped(&magic), escaped(&mask)).into_bytes();
        line.extend_from_slice(interpreter.as_bytes());
        line.extend_from_slice(b":POCF");
        line
    }

    /// A whole ELF file whose process ends with its number of arguments as exit code.
    pub fn probe_program(&self) -> Vec<u8> {
        let (header_bytes, segment_bytes) = if self.is_64_bit() { (64, 56) } else { (52, 32) };
        let code = match self.exit_with_argc {
            Code::Bytes(bytes) => bytes.to_vec(),
            Code::Words(words) => words.into_iter().flat_map(|word| self.word(word)).collect(),
        };
        let start = u64::from(header_bytes + segment_bytes);
        let total = start + code.len() as u64;

        let mut file = self.identification().to_vec();
        file.resize(16, 0);
        file.extend(self.half(2));
        file.extend(self.half(self.elf_number));
        file.extend(self.word(1));
        file.extend(self.long(LOAD_ADDRESS + start));
        file.extend(self.long(header_bytes.into()));
        file.extend(self.long(0));
        file.extend(self.word(self.elf_flags));
        for value in [header_bytes, segment_bytes, 1, 0, 0, 0] {
            file.extend(self.half(value));
        }

        let (load, read_and_execute) = (self.word(1), self.word(5));
        file.extend(load);
        if self.is_64_bit() {
            file.extend(read_and_execute);
        }
        for value in [0, LOAD_ADDRESS, LOAD_ADDRESS, total, total] {
            file.extend(self.long(value));
        }
        if !self.is_64_bit() {
            file.extend(read_and_execute);
        }
        file.extend(self.long(LARGEST_PAGE));
        file.extend(code);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_as_the_kernel_reads_it() {
        let machine = Machine::named("arm64").expect("it is known");
        let line = machine.registration(OsStr::new("/usr/bin/qemu-aarch64-static"));
        assert_eq!(
            String::from_utf8_lossy(&line),
            r":kiln-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:POCF"
        );
        let machine = Machine::named("s390x").expect("it is known");
        let line = String::from_utf8_lossy(&machine.registration(OsStr::new("q"))).into_owned();
        assert!(line.contains(r"\x00\x02\x00\x16:"), "{line}");
        assert!(line.contains(r"\xff\xfe\xff\xff:q:POCF"), "{line}");
    }

    #[test]
    fn one_machine_is_kilns_own() {
        assert_eq!(MACHINES.iter().filter(|machine| machine.is_own()).count(), 1);
    }

    #[test]
    fn headers_have_the_sizes_that_they_say() {
        for machine in MACHINES {
            let file = machine.probe_program();
            let expected = if machine.is_64_bit() { 120 } else { 84 };
            assert_eq!(file.len() - expected, machine.code_bytes(), "{}", machine.architecture);
        }
    }

    impl Machine {
        fn code_bytes(&self) -> usize {
            match self.exit_with_argc {
                Code::Bytes(bytes) => bytes.len(),
                Code::Words(_) => 12,
            }
        }
    }
}
