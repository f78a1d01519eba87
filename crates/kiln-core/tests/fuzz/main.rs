//! The fuzzers' entry functions with a fixed number of inputs: mutations of a few seeds, the same
//! ones every time. `make fuzz` looks for more with cargo-fuzz.
#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

mod entries;

/// How many inputs each function gets.
const RUNS: usize = 20_000;

/// A pseudo-random sequence (xorshift), the same one every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

const FILE: &str = "# escape=`\nARG V=1\nFROM a AS b\nENV A=\"x y\" B='é' C=${V:-1} D=$A$A$A$A\n\
    RUN --mount=type=cache,target=/c cat <<-'END' 2<<B > /out\n\tx\n\tEND\ny\nB\n\
    COPY --from=b --chown=\"a b\" [\"a\", \"b c\", \"/d/\"]\nADD <<x /z/\n${A}\nx\n\
    HEALTHCHECK --interval=5s CMD [\"curl\"]\nONBUILD RUN <<E\nz\nE\nLABEL a.b \"c d\"\n\
    EXPOSE 80 ${V:-9}/udp\nVOLUME [\"/a\"]\nSHELL [\"sh\", \"-c\"]\nUSER a:b\nWORKDIR /w\nFROM b\n";

const PIECES: [&str; 48] = [
    "\\",
    "\\\n",
    "\n",
    "\r\n",
    "\"",
    "'",
    "`",
    "<<E",
    "<<-",
    "E\n",
    " --",
    "--x=",
    "=",
    "[",
    "]",
    "$",
    "${",
    "}",
    "#",
    "\u{feff}",
    "\u{a0}",
    "é",
    "\nONBUILD ",
    "\nFROM ",
    "\t",
    " ",
    "${a//x/",
    "${b%",
    "*",
    "?",
    "/",
    "**/",
    "!",
    "ENV A=$A$A\n",
    "\nARG A",
    "COPY --from=b ",
    "$b$b$b",
    "\0",
    "RUN --mount=from=",
    "^",
    "a",
    "xx",
    ":-",
    ":?",
    "##",
    "..",
    ",",
    "\x7f",
];

fn run(seed: &str, entry: fn(&[u8])) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..RUNS {
        let mut input = seed.as_bytes().to_vec();
        for _ in 0..=dice.below(8) {
            let start = dice.below(input.len() + 1);
            let end = (start + dice.below(24)).min(input.len());
            let piece = match dice.below(4) {
                0 => vec![dice.below(256) as u8],
                1 => input[dice.below(start + 1)..start].to_vec(),
                _ => PIECES[dice.below(PIECES.len())].as_bytes().to_vec(),
            };
            input.splice(start..end, piece.into_iter().take(400));
        }
        entry(&input);
    }
}

#[test]
fn any_file_is_parsed() {
    run(FILE, entries::parse);
}

#[test]
fn any_word_is_expanded() {
    run("xyx\n${a//x/$b}\"${a:-${b%%*\\}}}\" '$a' ${e:+c}", entries::word);
}

#[test]
fn any_pattern_is_matched() {
    run("*.o\n!a/**/b\n# c\n/d/[a-c]?\n\\!e\na/x/b", entries::pattern);
}

#[test]
fn any_file_is_planned() {
    run(FILE, entries::plan);
}
