"""What the end-to-end tests share: paths, commands, prepared inputs, ports and probes.

The tests use kiln as a person does: the program that the environment variable KILN names, with
a store of its own (KILN_ROOT). Without KILN the tests that need it are skipped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("KILN_TEST_CACHE", REPOSITORY / ".cache")) / "ares"
PYTHON_IMAGE = "python:3.12-slim"
STAGES = [
    "base", "core-deps", "dev-deps", "app", "production",
    "development", "testing", "celery-worker", "celery-beat",
]  # fmt: skip


class CommandFailed(AssertionError):
    """A command that should have succeeded, with the end of what it said."""


def run(*command, timeout=900, check=True, **options) -> subprocess.CompletedProcess:
    """Run a command to its end; its output is text. A failure shows the last 60 lines."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        [str(word) for word in command], text=True, errors="replace", timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
    if check and done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
        raise CommandFailed(f"exit {done.returncode}: {' '.join(map(str, command))}\n{tail}")
    return done


@cache
def prepare() -> Path:
    """The inputs of examples/ares, with the base from Debian packages; made once a run."""
    done = run(sys.executable, REPOSITORY / "scripts" / "prepare-ares", CACHE, "--base", "debian")
    print(done.stdout, end="", file=sys.stderr)
    return CACHE


def require_tools(*names: str) -> None:
    """Skip what needs programs that are not here."""
    absent = [name for name in names if not shutil.which(name)]
    if absent:
        skip(f"not installed: {', '.join(absent)}")


def skip(why: str) -> NoReturn:
    """Skip a test, or a class of them."""
    raise unittest.SkipTest(why)


def kiln_program() -> Path:
    """The program under test."""
    if "KILN" not in os.environ:
        skip("KILN does not name the program to test")
    return Path(os.environ["KILN"]).absolute()


class Kiln:
    """kiln with a store of its own below a directory."""

    def __init__(self, root: Path):
        self.program, self.root = kiln_program(), root
        self.environment = {**os.environ, "KILN_ROOT": str(root)}
        self.environment.pop("SOURCE_DATE_EPOCH", None)

    def __call__(self, *arguments, **options) -> subprocess.CompletedProcess:
        return run(self.program, *arguments, env=self.environment, **options)

    def start(self, *arguments, log) -> subprocess.Popen:
        """Start kiln in the background, its output in an open file."""
        command = [str(word) for word in (self.program, *arguments)]
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def ares_options(inputs: Path) -> list:
    """The options that every build of ares needs here."""
    return [
        "--host-ca", "--progress=plain",
        "--build-context", f"uv={inputs / 'uv'}",
        "--build-context", f"{PYTHON_IMAGE}=oci-layout://{inputs / 'python-base'}",
    ]  # fmt: skip


def copy_ares(to: Path) -> Path:
    """A copy of the prepared project that a test may edit."""
    return Path(shutil.copytree(prepare() / "ares", to))


def edit_source(project: Path) -> str:
    """One line more, that no build has seen; gives the version that /health then shows."""
    mark = f"+edit{time.time_ns()}"
    with (project / "src" / "ares" / "__init__.py").open("a") as file:
        file.write(f'__version__ += "{mark}"\n')
    return f"0.1.0{mark}"


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def poll_health(port: int, alive, seconds: float = 60) -> dict:
    """Ask /health until it answers; `alive()` tells whether it still may."""
    last: object = "nothing was tried"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running = alive()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            last = error
        if not running:
            raise AssertionError(f"the service ended before it answered ({last})")
        time.sleep(0.05)
    raise AssertionError(f"no answer from port {port} within {seconds:.0f} s: {last}")


def stop(process: subprocess.Popen, seconds: float = 20) -> int:
    """End a process that a test started: ask first, then insist."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def unmount_below(top: Path) -> None:
    """Take away the mounts that programs have left below a directory."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for mount in reversed([line.split()[1] for line in mounts]):
        if mount.startswith(f"{top}/"):
            run("umount", "-l", mount, check=False)


def wait_for(condition, what: str, alive=lambda: True, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        if not alive():
            raise AssertionError(f"{what}: ended")
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


class Workspace(unittest.TestCase):
    """Tests with a temporary directory for each class."""

    @classmethod
    def setUpClass(cls):
        cls.work = Path(tempfile.mkdtemp(prefix="kiln-e2e-"))
        cls.addClassCleanup(run, "rm", "-rf", cls.work, check=False)
