"""What kiln gives to the shell and to man: completions that complete, and pages that are without fault."""

import os
import pty
import select
import subprocess
import time
import unittest
from pathlib import Path

from support import Kiln, Workspace, require_tools, run, stop

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_kiln "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Shell(Workspace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kiln = Kiln(cls.work / "store")

    def script(self, shell: str, name: str) -> Path:
        file = self.work / name
        file.write_text(self.kiln("completions", shell).stdout)
        return file

    def test_bash_completes(self):
        script = self.script("bash", "kiln.bash")
        for words, expected in {
            ("kiln", "bui"): ["build"],
            ("kiln", "build", "--tar"): ["--target"],
            ("kiln", "build", "--progress", "pl"): ["plain"],
            ("kiln", "history", "lo"): ["logs"],
            ("kiln", "cache", "prune", "--keep-s"): ["--keep-storage"],
        }.items():
            with self.subTest(words=words):
                done = run("bash", "--noprofile", "--norc", "-c", COMPLETE, "bash", script, *words)
                self.assertEqual(done.stdout.split(), expected)
        registered = run("bash", "--noprofile", "--norc", "-c", 'source "$0"; complete -p kiln', script).stdout
        self.assertRegex(registered, r"-F _kiln .*kiln")

    def test_zsh_completes(self):
        """A line is typed with the tab key, and a function in place of kiln says what came of it."""
        require_tools("zsh")
        self.script("zsh", "_kiln")
        controller, terminal = pty.openpty()
        zsh = subprocess.Popen(
            ["zsh", "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            env={**os.environ, "TERM": "dumb", "HOME": str(self.work)},
        )  # fmt: skip
        os.close(terminal)
        self.addCleanup(os.close, controller)
        self.addCleanup(stop, zsh)
        os.write(controller, f"fpath=({self.work} $fpath); autoload -Uz compinit; compinit -u -D\n".encode())
        os.write(controller, b'kiln() { print -r -- "GIVEN: $*."; }; print READ""Y\n')
        self.read_until(controller, "READY")
        for typed, given in [("kiln bui\t.\n", "GIVEN: build ."), ("kiln history lo\t@\n", "GIVEN: history logs @.")]:
            with self.subTest(typed=typed):
                os.write(controller, typed.encode())
                self.read_until(controller, given)

    def read_until(self, controller: int, text: str, seconds: float = 60) -> None:
        """Read the terminal until it has shown a text."""
        shown, end = "", time.monotonic() + seconds
        while text not in shown:
            self.assertLess(time.monotonic(), end, shown)
            if select.select([controller], [], [], 1)[0]:
                shown += os.read(controller, 65536).decode(errors="replace")

    def test_manual_pages_are_without_fault(self):
        require_tools("mandoc")
        pages = self.work / "man1"
        self.kiln("man", pages)
        written = sorted(pages.iterdir())
        self.assertIn("kiln-cache-prune.1", [page.name for page in written])
        faults = run("mandoc", "-T", "lint", "-W", "warning", *written, check=False).stdout.splitlines()
        # They are made when someone asks for them: a date would say nothing.
        self.assertEqual([], [fault for fault in faults if "missing date" not in fault])
        shown = run("mandoc", "-T", "utf8", pages / "kiln-cache-prune.1").stdout
        self.assertRegex(shown, r"(?m)^ +kiln cache prune --keep-storage 10GB +until the store holds no more$")
        self.assertIn("kiln 0.", shown.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
