"""What an unchanged build costs, counted: a gate that no noise of the machine can trip.

Counted are the instructions of kiln's own process and the calls in which it asks the kernel about
files, both by valgrind, whatever else runs. `bench/instructions.json` has what they were when it
was written; `KILN_WRITE_INSTRUCTIONS=1 KILN=target/release/kiln tests/run.py tests/e2e
test_instructions` writes it again (release builds only: others take many times as much).

Whole builds may take a fifth more: another processor takes other paths through libraries. That
would hide a regression of each file behind what starting costs, so what one file more and one command
more cost is told apart, from builds of two sizes. One more `stat` for each file is two to four percent of
a build's instructions, but doubles the calls for each file.
"""

import json
import os
import re
import statistics
import time
from pathlib import Path

from support import REPOSITORY, Kiln, Workspace, prepare, require_tools, run

COUNTS = REPOSITORY / "bench" / "instructions.json"
WHOLE_TOLERANCE = 1.20  # of all instructions of a build
EACH_TOLERANCE = 1.15  # of the instructions for one file or command more
CALLS_TOLERANCE = 0.2  # calls for one file or command more, that may be added
RUNS = 3  # seeds of hash tables differ: up to 2 % of what a file costs
FILE_CALL = re.compile(
    r"^SYSCALL\[\d+,\d+\]\(\s*\d+\) sys_(?:new)?"
    r"(?:statx|l?stat|fstat|fstatat|open|openat|getdents64|read|pread64|readlink|readlinkat|close|access|faccessat"
    r"|l?getxattr|l?listxattr|write|pwrite64|rename|renameat|unlink|unlinkat|mkdir|mkdirat) ",
    re.MULTILINE,
)


class Instructions(Workspace):
    """Counted by valgrind's callgrind."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("valgrind")
        cls.kiln = Kiln(cls.work / "store")

    def count(self, *arguments) -> dict[str, int]:
        """Instructions and calls of a build that was done before: the median of some."""
        command = ["build", "-q", *arguments]
        for _ in range(2):  # the second one finds the context index settled
            self.kiln(*command)
        log, counted = self.work / "valgrind.log", []
        for _ in range(RUNS):
            run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-syscalls=yes",
                f"--log-file={log}", self.kiln.program, *command, env=self.kiln.environment)  # fmt: skip
            text = log.read_text(errors="replace")
            calls = len(FILE_CALL.findall(text))
            counted.append((int(re.search(r"Collected : (\d+)", text)[1]), calls))
        instructions, calls = zip(*counted, strict=True)
        return {"instructions": statistics.median(instructions), "file_calls": statistics.median(calls)}

    def check(self, name: str, counted: dict[str, float], instructions_limit: float, calls_limit: float) -> None:
        """Compare with what is known, or make it known."""
        known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        if "KILN_WRITE_INSTRUCTIONS" in os.environ:
            COUNTS.write_text(json.dumps({**known, name: counted}, indent=1, sort_keys=True) + "\n")
            return
        limits = {"instructions": known[name]["instructions"] * instructions_limit,
                  "file_calls": known[name]["file_calls"] + calls_limit}  # fmt: skip
        for what, limit in limits.items():
            self.assertLessEqual(counted[what], limit, f"{name}: {counted[what]} {what}, {known[name][what]} before")

    def check_sizes(self, small: tuple[int, dict], large: tuple[int, dict], whole: str, each: str) -> None:
        """Check the smaller build as a whole, and what one unit more costs in the larger one."""
        more = large[0] - small[0]
        cost = {what: round((large[1][what] - small[1][what]) / more, 3) for what in small[1]}
        self.check(whole, small[1], WHOLE_TOLERANCE, small[1]["file_calls"] * (WHOLE_TOLERANCE - 1))
        self.check(each, cost, EACH_TOLERANCE, CALLS_TOLERANCE)

    def test_commands_unchanged(self):
        def count(number: int) -> tuple[int, dict]:
            project = self.work / f"runs{number}"
            project.mkdir()
            lines = [f"RUN true {step}\n" for step in range(number)]
            (project / "Dockerfile").write_text("FROM bench-base\n" + "".join(lines))
            base = f"bench-base=oci-layout://{prepare() / 'python-base'}"
            return number, self.count("--build-context", base, "-t", project.name, project)

        self.check_sizes(count(20), count(40), "twenty commands", "each command")

    def test_files_unchanged(self):
        sizes = (1000, 1800)  # one thread walks them both
        for number in sizes:
            make_files(self.work / f"files{number}", number)
        time.sleep(3)  # files that were just written are looked at again
        small, large = [(number, self.count("-t", f"files{number}", self.work / f"files{number}")) for number in sizes]
        self.check_sizes(small, large, "a thousand files", "each file")


def make_files(project: Path, count: int) -> None:
    """A context of small files, fifty to a directory."""
    for number in range(count):
        file = project / "src" / f"d{number // 50}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}\n")
    (project / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
