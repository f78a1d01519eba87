"""What an unchanged build costs, in instructions: a gate that no noise of the machine can trip.

`bench/instructions.json` has what the builds took when it was written (`KILN_WRITE_INSTRUCTIONS=1`
does so). A build that takes a fifth more fails. Only kiln's own process counts. A processor with
other features takes other paths through libraries, so the tolerance is much wider than the counts
differ on one machine (0.1 %).
"""

import json
import os
import re
import time

from support import REPOSITORY, Kiln, Workspace, prepare, require_tools, run

COUNTS = REPOSITORY / "bench" / "instructions.json"
TOLERANCE = 0.20


class Instructions(Workspace):
    """Counted by callgrind."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("valgrind")
        cls.kiln = Kiln(cls.work / "store")

    def count(self, *arguments) -> int:
        """Instructions of a build that was done before."""
        command = ["build", "-q", *arguments]
        for _ in range(2):  # the second one finds the context index settled
            self.kiln(*command)
        done = run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", self.kiln.program, *command,
                   env=self.kiln.environment)  # fmt: skip
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])

    def check(self, name: str, counted: int) -> None:
        known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        if "KILN_WRITE_INSTRUCTIONS" in os.environ:
            COUNTS.write_text(json.dumps({**known, name: counted}, indent=1, sort_keys=True) + "\n")
            return
        limit = known[name] * (1 + TOLERANCE)
        self.assertLess(counted, limit, f"{name} takes {counted} instructions, {known[name]} before")

    def test_twenty_commands_unchanged(self):
        project = self.work / "runs"
        project.mkdir()
        lines = [f"RUN true {number}\n" for number in range(20)]
        (project / "Dockerfile").write_text("FROM bench-base\n" + "".join(lines))
        base = f"bench-base=oci-layout://{prepare() / 'python-base'}"
        self.check("twenty commands", self.count("--build-context", base, "-t", "runs", project))

    def test_a_thousand_files_unchanged(self):
        project = self.work / "files"
        for number in range(1000):
            file = project / "src" / f"d{number // 50}" / f"f{number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"file {number}\n")
        (project / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
        time.sleep(3)  # files that were just written are looked at again
        self.check("a thousand files", self.count("-t", "files", project))
