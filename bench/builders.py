"""The builders that are measured: kiln, and the peers that this machine has.

Each builds a `Job`, hands out what it built as a file (`archive`), and can forget all that it knows
(`reset`). Nothing is shared between them but the files that they read.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import SkipTest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "e2e"))

from docker_engine import DockerEngine
from process import Done, timed
from support import kiln_program, run, stop, unmount_below

EPOCH = "1700000000"


@dataclass
class Job:
    """A build: its context, and whether it is to leave the builder as an OCI file."""

    context: Path
    target: str = ""
    build_args: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, Path] = field(default_factory=dict)  # images by name, each an OCI layout
    no_cache: bool = False
    output: bool = False

    def name(self) -> str:
        return f"bench-{self.context.name}:{self.target or 'latest'}"

    def common_options(self) -> list:
        """What kiln, docker and buildah have learnt from docker."""
        words = ["--target", self.target] if self.target else []
        words += [word for name, value in self.build_args.items() for word in ("--build-arg", f"{name}={value}")]
        return words + (["--no-cache"] if self.no_cache else [])


class Builder:
    """What all have."""

    name = ""
    note = ""  # what its figures do not hold
    limit = 300.0  # of one build, in seconds
    gave_up: Path | None = None  # a context with which a build took longer

    def __init__(self, work: Path):
        self.work = work / self.name
        self.output = work / f"{self.name}.tar"
        self.left = 0

    def leave(self) -> None:
        """Go on with another directory. What was there is deleted with all the rest at the very end: on
        ext4, mass deletions make the creation of files several times slower for a minute."""
        self.left += 1
        self.work = self.work.with_name(f"{self.name}-{self.left}")
        self.output.unlink(missing_ok=True)

    def version(self) -> str:
        raise NotImplementedError

    def prepare(self, job: Job) -> None:
        """Give the builder what a job needs beforehand; not timed."""

    def build(self, job: Job) -> Done:
        raise NotImplementedError

    def archive(self, job: Job) -> Path:
        """What a job builds, as a file: an OCI archive or one of docker's."""
        self.build(replace(job, output=True, no_cache=False))
        return self.output

    def reset(self) -> None:
        """Forget everything."""
        raise NotImplementedError


class KilnBuilder(Builder):
    """kiln with a store of its own."""

    name = "kiln"

    def __init__(self, work: Path):
        super().__init__(work)
        self.program = kiln_program()
        self.environment = {**os.environ, "KILN_ROOT": str(self.work)}
        self.environment.pop("SOURCE_DATE_EPOCH", None)

    def version(self) -> str:
        first = run(self.program, "version").stdout.split("\n")[0].removeprefix("kiln ")
        revision = ""
        if self.program.is_relative_to(REPOSITORY):
            revision = run("git", "-C", REPOSITORY, "describe", "--always", "--dirty", check=False).stdout.strip()
        return f"{first} ({revision})" if revision else first

    def build(self, job: Job, **options) -> Done:
        words: list = ["build", "--progress=plain", *job.common_options()]
        for name, layout in job.layouts.items():
            words += ["--build-context", f"{name}=oci-layout://{layout}"]
        words += ["-o", f"type=oci,dest={self.output}"] if job.output else ["-t", job.name()]
        options.setdefault("environment", self.environment)
        return timed(self.program, *words, job.context, limit=self.limit, **options)

    def peak_bytes(self, job: Job) -> int:
        """The peak of kiln's own memory in one more build."""
        return self.build(job, watch=True).peak_bytes

    def repeated(self, job: Job, hermetic: bool) -> list[Path]:
        """OCI files of one input: from two new stores, the second on one processor; or, if the job's
        commands do not repeat themselves, written twice from the same store."""
        job, files = replace(job, output=True, no_cache=False), []
        for number in range(2):
            self.output.unlink(missing_ok=True)
            if hermetic:
                store = self.work.with_name(f"{self.work.name}-again{number}")
                environment = {**self.environment, "KILN_ROOT": str(store), "SOURCE_DATE_EPOCH": EPOCH}
                processors = {min(os.sched_getaffinity(0))} if number else None
                self.build(job, environment=environment, processors=processors)
            else:
                self.build(job)
            files.append(self.output.rename(self.output.with_name(f"kiln-again{number}.tar")))
        return files

    def reset(self) -> None:
        self.leave()
        self.environment["KILN_ROOT"] = str(self.work)


class DockerBuilder(Builder):
    """Docker's engine with its own BuildKit."""

    name = "docker"
    note = "docker puts images into its own store, uncompressed: it writes no OCI file in any row"

    def __init__(self, work: Path, engine: DockerEngine):
        super().__init__(work)
        self.engine = engine
        self.loaded: set[str] = set()

    def version(self) -> str:
        driver = self.engine.docker("info", "--format", "{{.Driver}}").stdout.strip()
        return self.engine.docker("version", "--format", "{{.Server.Version}}").stdout.strip() + f" ({driver})"

    def prepare(self, job: Job) -> None:
        for name, layout in job.layouts.items():
            if name not in self.loaded:
                self.engine.load_layout(layout, f"{name}:latest")
                self.loaded.add(name)

    def build(self, job: Job) -> Done:
        words = ["build", "--progress=plain", "--network=host", "-t", job.name(), *job.common_options()]
        return timed(self.engine.client, *words, job.context, limit=self.limit, environment=self.engine.environment())

    def archive(self, job: Job) -> Path:
        self.build(replace(job, no_cache=False))
        self.engine.docker("save", "-o", self.output, job.name())
        return self.output

    def reset(self) -> None:
        self.engine.docker("builder", "prune", "--all", "--force")
        self.engine.docker("image", "prune", "--all", "--force")
        self.loaded.clear()


class BuildkitBuilder(Builder):
    """A buildkitd of its own, spoken to by buildctl."""

    name = "buildkit"

    def __init__(self, work: Path):
        super().__init__(work)
        self.address = f"unix://{work}/buildkitd.sock"
        self.log = (work / "buildkitd.log").open("wb")

    def __enter__(self) -> "BuildkitBuilder":
        command = ["buildkitd", "--root", self.work, "--addr", self.address, "--oci-worker-net=host",
                   "--oci-worker-gc=false"]  # fmt: skip
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while self.buildctl("debug", "workers", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                tail = Path(self.log.name).read_text(errors="replace").splitlines()[-3:]
                self.__exit__()
                raise RuntimeError("buildkitd does not start: " + " | ".join(tail))
            time.sleep(0.1)
        return self

    def __exit__(self, *_) -> None:
        stop(self.process, 60)
        self.log.close()

    def buildctl(self, *words, **options) -> subprocess.CompletedProcess:
        return run("buildctl", "--addr", self.address, *words, **options)

    def version(self) -> str:
        _, _, number, *revision = run("buildkitd", "--version").stdout.split()
        workers = json.loads(self.buildctl("debug", "workers", "--format", "{{json .}}").stdout)
        driver = workers[0]["labels"].get("org.mobyproject.buildkit.worker.snapshotter", "")
        return f"{number} ({', '.join([*(each[:12] for each in revision), driver])})"

    def build(self, job: Job) -> Done:
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
        return timed("buildctl", "--addr", self.address, *words, job.context, limit=self.limit)

    def reset(self) -> None:
        stop(self.process, 60)
        self.leave()
        self.__enter__()


class BuildahBuilder(Builder):
    """buildah with a store of its own, chroot isolation, layers cached."""

    name = "buildah"
    limit = 120.0

    def __init__(self, work: Path):
        super().__init__(work)
        self.loaded: set[str] = set()

    @property
    def command(self) -> list:
        return ["buildah", "--root", self.work / "root", "--runroot", self.work / "run", "--storage-driver", "overlay"]

    def version(self) -> str:
        return run("buildah", "--version").stdout.split()[2] + " (overlay)"

    def prepare(self, job: Job) -> None:
        for name, layout in job.layouts.items():
            if name not in self.loaded:
                store = f"[overlay@{self.work}/root+{self.work}/run]"
                run("skopeo", "copy", "--insecure-policy", "--quiet", f"oci:{layout}:latest",
                    f"containers-storage:{store}localhost/{name}:latest")  # fmt: skip
                self.loaded.add(name)

    def build(self, job: Job) -> Done:
        words = ["build", "--layers", "--pull=false", "--isolation", "chroot", "--network=host", "-t", job.name()]
        done = timed(*self.command, *words, *job.common_options(), job.context, limit=self.limit)
        if job.output:
            self.output.unlink(missing_ok=True)
            push = timed(*self.command, "push", "-q", job.name(), f"oci-archive:{self.output}", limit=self.limit)
            done.seconds += push.seconds
        return done

    def __enter__(self) -> "BuildahBuilder":
        return self

    def __exit__(self, *_) -> None:
        self.reset()

    def reset(self) -> None:
        unmount_below(self.work)  # it leaves its containers mounted
        self.leave()
        self.loaded.clear()


PEERS = {
    "buildkit": lambda work: BuildkitBuilder(work) if shutil.which("buildkitd") and shutil.which("buildctl") else None,
    "docker": lambda work: DockerEngine(work / "docker") if shutil.which("dockerd") and os.geteuid() == 0 else None,
    "buildah": lambda work: BuildahBuilder(work) if shutil.which("buildah") else None,
}


@contextlib.contextmanager
def found(work: Path, wanted: list[str]) -> Iterator[list[Builder]]:
    """kiln and the peers found on this machine, of those that are wanted; one that does not start is
    told, and left out."""
    with contextlib.ExitStack() as cleanup:
        builders: list[Builder] = [KilnBuilder(work)]
        for name in wanted:
            try:
                peer = PEERS[name](work)
                if hasattr(peer, "__exit__"):
                    peer = cleanup.enter_context(peer)
                if isinstance(peer, DockerEngine):
                    peer = DockerBuilder(work, peer)
            except (RuntimeError, SkipTest) as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            builders += [peer] if peer else []
        yield builders
