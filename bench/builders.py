"""The builders that are measured: kiln, and the peers that this machine has.

Each builds a `Job` and can forget all that it knows (`reset`). Nothing is shared between them but
the files that they read.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "e2e"))

from docker_engine import DockerEngine
from support import Kiln, run, stop


@dataclass
class Job:
    """A build: its context, and where an OCI file goes, if it is to leave the builder."""

    context: Path
    target: str = ""
    build_args: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, Path] = field(default_factory=dict)  # images by name, each an OCI layout
    no_cache: bool = False
    host_network: bool = True
    output: bool = False

    def name(self) -> str:
        return f"bench-{self.context.name}:{self.target or 'latest'}"


class KilnBuilder:
    """kiln with a store of its own."""

    name = "kiln"

    def __init__(self, work: Path):
        self.work = work / "kiln"
        self.output = work / "kiln.tar"
        self.kiln = Kiln(self.work)

    def version(self) -> str:
        return self.kiln("version").stdout.split("\n")[0].removeprefix("kiln ")

    def build(self, job: Job) -> None:
        words: list = ["build", "-q"]
        words += ["--target", job.target] if job.target else []
        words += [word for name, value in job.build_args.items() for word in ("--build-arg", f"{name}={value}")]
        for name, layout in job.layouts.items():
            words += ["--build-context", f"{name}=oci-layout://{layout}"]
        words += ["--no-cache"] if job.no_cache else []
        words += ["-o", f"type=oci,dest={self.output}"] if job.output else ["-t", job.name()]
        self.kiln(*words, job.context)

    def reset(self) -> None:
        run("rm", "-rf", self.work)
        self.output.unlink(missing_ok=True)


class DockerBuilder:
    """Docker's engine with its own BuildKit. Images go to its own store: it writes no OCI files."""

    name = "docker"

    def __init__(self, engine: DockerEngine):
        self.engine = engine
        self.loaded: set[str] = set()

    def version(self) -> str:
        return self.engine.docker("version", "--format", "{{.Server.Version}}").stdout.strip()

    def build(self, job: Job) -> None:
        for name, layout in job.layouts.items():
            if name not in self.loaded:
                self.engine.load_layout(layout, f"{name}:latest")
                self.loaded.add(name)
        words: list = ["build", "-q", "-t", job.name()]
        words += ["--target", job.target] if job.target else []
        words += [word for name, value in job.build_args.items() for word in ("--build-arg", f"{name}={value}")]
        words += ["--no-cache"] if job.no_cache else []
        words += ["--network=host"] if job.host_network else []
        self.engine.docker(*words, job.context)

    def reset(self) -> None:
        self.engine.docker("builder", "prune", "--all", "--force")
        self.engine.docker("image", "prune", "--all", "--force")
        self.loaded.clear()


class BuildkitBuilder:
    """A buildkitd of its own, spoken to by buildctl."""

    name = "buildkit"

    def __init__(self, work: Path):
        self.work = work / "buildkit"
        self.output = work / "buildkit.tar"
        self.address = f"unix://{work}/buildkitd.sock"
        self.log = (work / "buildkitd.log").open("wb")

    def __enter__(self) -> "BuildkitBuilder":
        command = ["buildkitd", "--root", self.work, "--addr", self.address, "--oci-worker-net=host",
                   "--oci-worker-gc=false"]  # fmt: skip
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        end = time.monotonic() + 60
        while self.buildctl("debug", "workers", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError(f"buildkitd does not start, see {self.log.name}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_) -> None:
        stop(self.process, 60)
        self.log.close()
        run("rm", "-rf", self.work, check=False)

    def buildctl(self, *words, **options) -> subprocess.CompletedProcess:
        return run("buildctl", "--addr", self.address, *words, **options)

    def version(self) -> str:
        return run("buildkitd", "--version").stdout.split()[2]

    def build(self, job: Job) -> None:
        words: list = ["build", "--progress", "plain", "--frontend", "dockerfile.v0",
                       "--local", f"context={job.context}", "--local", f"dockerfile={job.context}"]  # fmt: skip
        words += ["--opt", f"target={job.target}"] if job.target else []
        for name, value in job.build_args.items():
            words += ["--opt", f"build-arg:{name}={value}"]
        for position, (name, layout) in enumerate(job.layouts.items()):
            digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
            words += ["--oci-layout", f"layout{position}={layout}",
                      "--opt", f"context:{name}=oci-layout://layout{position}@{digest}"]  # fmt: skip
        words += ["--no-cache"] if job.no_cache else []
        words += ["--output", f"type=oci,dest={self.output}"] if job.output else []
        self.buildctl(*words, job.context)

    def reset(self) -> None:
        self.buildctl("prune", "--all")
        self.output.unlink(missing_ok=True)


class BuildahBuilder:
    """buildah with a store of its own, chroot isolation, layers cached."""

    name = "buildah"

    def __init__(self, work: Path):
        self.work = work / "buildah"
        self.output = work / "buildah.tar"
        self.options = ["--root", self.work / "root", "--runroot", self.work / "run", "--storage-driver", "vfs"]
        self.loaded: dict[str, str] = {}

    def version(self) -> str:
        return run("buildah", "--version").stdout.split()[2]

    def build(self, job: Job) -> None:
        words: list = ["buildah", *self.options, "build", "-q", "--layers", "--isolation", "chroot", "-t", job.name()]
        words += ["--target", job.target] if job.target else []
        words += [word for name, value in job.build_args.items() for word in ("--build-arg", f"{name}={value}")]
        for name, layout in job.layouts.items():
            words += ["--build-context", f"{name}=docker-image://oci:{layout}:latest"]
        words += ["--no-cache"] if job.no_cache else []
        run(*words, job.context)
        if job.output:
            run("buildah", *self.options, "push", "-q", job.name(), f"oci-archive:{self.output}")

    def reset(self) -> None:
        run("rm", "-rf", self.work)
        self.output.unlink(missing_ok=True)


@contextlib.contextmanager
def found(work: Path, wanted: list[str]) -> Iterator[list]:
    """kiln and the peers found on this machine, of those that are wanted."""
    with contextlib.ExitStack() as cleanup:
        builders: list = [KilnBuilder(work)]
        if "buildkit" in wanted and shutil.which("buildkitd") and shutil.which("buildctl"):
            builders.append(cleanup.enter_context(BuildkitBuilder(work)))
        if "docker" in wanted and shutil.which("dockerd") and os.geteuid() == 0:
            builders.append(DockerBuilder(cleanup.enter_context(DockerEngine(work / "docker"))))
        if "buildah" in wanted and shutil.which("buildah"):
            builders.append(BuildahBuilder(work))
        yield builders
