"""The scripts that install packages and count tests."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SCRIPTS = REPOSITORY / "scripts"


def run(*command, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command], env={**os.environ, **environment}, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip


class Scripts(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp(prefix="kiln-scripts-"))
        self.addCleanup(shutil.rmtree, self.work)

    def program(self, name: str, text: str) -> Path:
        """A program of this name in a directory of its own."""
        path = self.work / name
        path.write_text(text)
        path.chmod(0o755)
        return path


class InstallTestPackages(Scripts):
    script = SCRIPTS / "install-test-packages"

    def setUp(self):
        super().setUp()
        # dpkg-query knows one package, the user is nobody
        self.program("dpkg-query", '#!/bin/sh\n[ "$4" = there ] && printf installed\n')
        self.program("id", "#!/bin/sh\necho 65534\n")
        self.path = f"{self.work}:{os.environ['PATH']}"

    def test_nothing_is_missing(self):
        done = run(self.script, "there", PATH=self.path)
        self.assertEqual((0, "", ""), (done.returncode, done.stdout, done.stderr))

    def test_without_root_it_names_exactly_what_is_missing(self):
        done = run(self.script, "there", "gone", "lost", PATH=self.path)
        self.assertEqual(1, done.returncode)
        self.assertEqual("missing Debian packages: gone lost", done.stderr.splitlines()[0])
        self.assertIn("apt-get install gone lost", done.stderr)

    def test_every_package_of_the_list_says_what_for(self):
        for line in (REPOSITORY / "tests" / "apt-packages.txt").read_text().splitlines():
            if not line.startswith("#"):
                self.assertRegex(line, r"^[a-z0-9.+-]+ +\S")


class Conformance(Scripts):
    SUITE = """import json, sys
cases = [("stage-diamond", "{first}"), ("platform-scratch", "FAIL"), ("epoch-x", "PASS"), ("slow", "SKIP")]
report = [dict(case=name, result=result, differences=["why"]) for name, result in cases]
json.dump(dict(cases=report), open(sys.argv[sys.argv.index("--json") + 1], "w"))
"""

    def conformance(self, first: str) -> subprocess.CompletedProcess:
        (self.work / "run.py").write_text(self.SUITE.format(first=first))
        (self.work / "later.txt").write_text("# comment\nplatform-* --platform\nepoch-* the epoch\n")
        return run(
            sys.executable, SCRIPTS / "conformance", self.work,
            KILN="true", KILN_TEST_CACHE=str(self.work), CONFORMANCE_LATER=str(self.work / "later.txt"),
        )  # fmt: skip

    def test_a_listed_case_may_fail_and_is_told_when_it_passes(self):
        done = self.conformance("PASS")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual("2 passed, 0 failed, 1 later, 1 skipped", done.stdout.splitlines()[-1])
        self.assertIn("passes, though listed as later (the epoch): epoch-x", done.stdout)

    def test_any_other_case_must_pass(self):
        done = self.conformance("FAIL")
        self.assertEqual(1, done.returncode)
        self.assertIn("FAILED: stage-diamond: why", done.stdout)
        self.assertEqual("1 passed, 1 failed, 1 later, 1 skipped", done.stdout.splitlines()[-1])


class Test(Scripts):
    def run_suites(self, cargo: str, *suites: str) -> subprocess.CompletedProcess:
        self.program("cargo", f"#!/bin/sh\n{cargo}\n")
        self.program("cargo-nextest", "#!/bin/sh\n")
        return run(sys.executable, SCRIPTS / "test", *suites, PATH=f"{self.work}:{os.environ['PATH']}")

    def test_it_counts_nextest(self):
        done = self.run_suites("echo '     Summary [   1.2s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped'; exit 100", "rust")
        self.assertEqual((1, "10 passed, 2 failed"), (done.returncode, done.stdout.splitlines()[-1]))

    def test_it_counts_doc_tests_of_all_crates(self):
        done = self.run_suites("echo 'test result: ok. 2 passed; 0 failed;'; echo 'test result: ok. 3 passed; 0 failed;'", "docs")
        self.assertEqual((0, "5 passed, 0 failed"), (done.returncode, done.stdout.splitlines()[-1]))

    def test_a_suite_that_does_not_compile_has_failed(self):
        done = self.run_suites("echo 'error: could not compile'; exit 101", "rust", "docs")
        self.assertEqual((1, "0 passed, 2 failed"), (done.returncode, done.stdout.splitlines()[-1]))

    def test_without_the_conformance_suite_it_says_so(self):
        os.environ["CONFORMANCE_SUITE"] = str(self.work / "none")
        self.addCleanup(os.environ.pop, "CONFORMANCE_SUITE")
        done = self.run_suites("exit 0", "conformance")
        self.assertEqual((0, "0 passed, 0 failed"), (done.returncode, done.stdout.splitlines()[-1]))
        self.assertIn("left out", done.stdout)


if __name__ == "__main__":
    unittest.main()
