"""scripts/demo with a stand-in for kiln: what it prints, and that it names what went wrong."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

STAND_IN = '''#!{python}
"""Answers like kiln; FAIL names what goes wrong."""
import http.server, json, os, sys
command, words, fail = sys.argv[1], sys.argv[2:], os.environ.get("FAIL", "")
if command == "build":
    if fail == "build":
        sys.exit("error[run-failed]: it broke")
    again = os.path.exists(os.environ["KILN_ROOT"])
    os.makedirs(os.environ["KILN_ROOT"], exist_ok=True)
    targets = [words[i + 1] for i, word in enumerate(words) if word == "--target"]
    cost = dict(duration_ms=8 if again else 12345, steps=7, cached=7 if again and fail != "cache" else 3,
                layers=9, layers_reused=9, image_size_bytes=123456789)
    with open(words[words.index("--metadata-file") + 1], "w") as file:
        json.dump({{target: {{"kiln": cost}} for target in targets}}, file)
elif command == "history":
    ran = 4 if fail == "rate" else 2
    steps = [dict(line=i + 1, outcome="done" if i < ran else "cached") for i in range(14)]
    print(json.dumps(dict(steps=[dict(line=None, outcome="done"), dict(line=1, base="x", outcome="done"), *steps])))
elif words[-1] == "ares:testing":
    print("15 passed")
    sys.exit(3 if fail == "tests" else 0)
elif fail == "service":
    sys.exit("no such image")
else:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{{"status": "ok"}}')
    port = int(words[words.index("-e") + 1].partition("=")[2])
    http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
'''


class Demo(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp(prefix="kiln-demo-"))
        self.addCleanup(shutil.rmtree, self.work)
        self.program = self.work / "kiln"
        self.program.write_text(STAND_IN.format(python=sys.executable))
        self.program.chmod(0o755)
        # inputs that are there already, so that nothing is fetched
        self.cache = self.work / "cache" / "ares"
        (self.cache / "python-base").mkdir(parents=True)
        (self.cache / "uv").mkdir()
        (self.cache / "uv" / "uv").write_text("#!/bin/sh\necho locked again >> uv.lock\n")
        (self.cache / "uv" / "uv").chmod(0o755)
        (self.cache / "ares").mkdir()
        (self.cache / "ares" / "uv.lock").touch()
        shutil.copy(REPOSITORY / "examples" / "ares" / "pyproject.toml", self.cache / "ares")

    def demo(self, fail: str = "") -> tuple[int, str]:
        environment = {**os.environ, "KILN": str(self.program), "KILN_DEMO_CACHE": str(self.cache), "FAIL": fail}
        environment.pop("KILN_DEMO_PORT", None)
        # a program that is asked for is found: nothing must be installed
        (self.work / "mmdebstrap").touch(mode=0o755)
        environment["PATH"] += f":{self.work}"
        done = subprocess.run(
            [REPOSITORY / "scripts" / "demo"], env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        self.assertEqual(["ares"], sorted(path.name for path in self.cache.parent.iterdir()), "the store stayed")
        return done.returncode, done.stdout

    def test_it_passes_with_a_row_for_each_target(self):
        code, said = self.demo()
        self.assertEqual(0, code, said)
        rows = [line for line in said.splitlines() if "7 of 7" in line]
        self.assertEqual(9, len(rows), said)
        self.assertRegex(rows[4], r"^production +12\.3 s +8\.0 ms +7 +7 of 7 +9 of 9 +123\.5 MB$")
        self.assertIn('{"status": "ok"}', said)
        self.assertEqual("demo passed: built, cached, served, tested, and twenty commits replayed.", said.splitlines()[-1])

    def test_it_replays_commits_and_judges_them(self):
        code, said = self.demo()
        self.assertEqual(0, code, said)
        rows = [line for line in said.splitlines() if "61 of 63" in line]
        self.assertEqual(20, len(rows), said)
        self.assertRegex(rows[9], r"^10 +deps: tenacity, for retries +[0-9.]+ m?s +2 +61 of 63$")
        self.assertIn("asked for 1260 steps, as nine builds would. 40 ran;", said)
        self.assertIn("the steps are 280: 85.7 % cached", said)
        self.assertRegex(said, r"hit rate of the series +96.8 % +over 95 % +kept")
        self.assertEqual("", (self.cache / "ares" / "uv.lock").read_text(), "the prepared project was edited")

    def test_it_names_what_failed(self):
        reasons = {
            "build": "the clean build failed with exit code 1",
            "cache": "the second build ran steps again (base: 4",
            "service": "the production image ended with exit code 1",
            "tests": "the tests in the testing image failed with exit code 3",
            "rate": "hit rate of the series: 93.7 %, not over 95 %",
        }
        for fail, reason in reasons.items():
            with self.subTest(fail=fail):
                code, said = self.demo(fail)
                self.assertEqual(1, code, said)
                self.assertIn(f"demo failed: {reason}", said.splitlines()[-1])

    def test_it_wants_a_program(self):
        self.program.unlink()
        code, said = self.demo()
        self.assertEqual(1, code)
        self.assertIn("there is no kiln", said)


class Series(unittest.TestCase):
    def test_an_edit_that_does_not_fit_is_told(self):
        sys.path.insert(0, str(REPOSITORY / "scripts"))
        self.addCleanup(sys.path.remove, str(REPOSITORY / "scripts"))
        sys.dont_write_bytecode = True
        import series

        with tempfile.TemporaryDirectory() as work:
            Path(work, "file").write_text("a b a")
            for old, times in (("a", 2), ("c", 0)):
                with self.assertRaisesRegex(series.Stale, f"'{old}' is {times} times"):
                    series.Commit("x", (("file", old, "d"),)).apply(Path(work))
            series.Commit("x", (("file", "b", "d"), ("file", None, "!"))).apply(Path(work))
            self.assertEqual("a d a!", Path(work, "file").read_text())


if __name__ == "__main__":
    unittest.main()
