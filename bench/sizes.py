"""Builds of any size, for the curves: contexts, steps, and base images written here."""

import hashlib
import io
import json
import random
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from builders import Job
from process import Failed
from scenarios import append_line, make_files

MEGABYTE = 1_000_000
LAYER_BYTES = 100 * MEGABYTE
BUSYBOX = Path("/bin/busybox")
OCI = "application/vnd.oci.image"


@dataclass
class Point:
    """The builds of one size: the one that stays the same, and what gives the job of each kind's next."""

    job: Job
    kinds: dict[str, Callable[[], Job]]


@dataclass
class Curve:
    """What grows, how far, and the kinds of builds that are measured at each size."""

    name: str
    title: str
    unit: str
    axis: str
    sizes: list[int]
    kinds: list[str]
    make: Callable[[Path, int], Point]


def files(top: Path, count: int) -> Point:
    """A context of so many files."""
    make_files(top, count)
    job = Job(top)
    edit = append_line(top / "src" / "d000" / "e0" / "f25.txt")

    def edited() -> Job:
        edit()
        return job

    return Point(job, {"unchanged": lambda: job, "one edited": edited})


def steps(top: Path, count: int) -> Point:
    """A Dockerfile of so many RUN steps."""
    base = write_image(top / "base", [busybox_layer()])
    lines = [run_line("true", str(number)) for number in range(count)]
    job = dockerfile(top / "context", lines, base)
    return Point(job, {"cached": lambda: job, "none cached": lambda: replace(job, no_cache=True)})


def layers(top: Path, count: int) -> Point:
    """A base of so many layers, and a RUN on top."""
    rest = (archive({f"layer/{number}": b"x"}) for number in range(count - 1))
    base = write_image(top / "base", [busybox_layer(), *rest])
    return on_top(top, base)


def image(top: Path, megabytes: int) -> Point:
    """A base of so many megabytes in files of one, and a RUN on top."""

    def content():
        yield busybox_layer()
        random_ = random.Random(megabytes)
        for start in range(0, megabytes, LAYER_BYTES // MEGABYTE):
            end = min(megabytes, start + LAYER_BYTES // MEGABYTE)
            yield archive({f"data/{number}": random_.randbytes(MEGABYTE) for number in range(start, end)})

    return on_top(top, write_image(top / "base", content()))


def on_top(top: Path, base: Path) -> Point:
    """One RUN on a base: the same again, or a new one."""
    job = dockerfile(top / "context", [run_line("true")], base)

    def changed() -> Job:
        dockerfile(top / "changed", [run_line("true", str(time.time_ns()))], base)
        return replace(job, context=top / "changed")

    return Point(job, {"cached": lambda: job, "new RUN": changed})


def run_line(*words: str) -> str:
    return f"RUN {json.dumps(['/bin/busybox', *words])}"


def dockerfile(context: Path, lines: list[str], base: Path) -> Job:
    """A context of nothing but a Dockerfile on a base."""
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("\n".join(["FROM bench-base", *lines]) + "\n")
    return Job(context, layouts={"bench-base": base})


# ------------------------------------------------------------------ images


def archive(content: dict[str, bytes]) -> bytes:
    """A layer of files, uncompressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, bytes_ in content.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(bytes_), 0o755
            tar.addfile(entry, io.BytesIO(bytes_))
    return out.getvalue()


def busybox_layer() -> bytes:
    program = BUSYBOX if BUSYBOX.exists() else Path(shutil.which("busybox") or BUSYBOX)
    if not program.exists():
        raise Failed("no busybox for the images (Debian: busybox-static)")
    return archive({"bin/busybox": program.read_bytes()})


def write_image(layout: Path, content) -> Path:
    """An OCI layout of an image with these layers, each uncompressed."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(bytes_: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(bytes_).hexdigest()
        (blobs / digest).write_bytes(bytes_)
        return f"sha256:{digest}", len(bytes_)

    def descriptor(kind: str, bytes_: bytes) -> dict:
        digest, size = blob(bytes_)
        return {"mediaType": f"{OCI}.{kind}", "digest": digest, "size": size}

    found = [descriptor("layer.v1.tar", bytes_) for bytes_ in content]
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in found]}}  # fmt: skip
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json",
                "config": descriptor("config.v1+json", json.dumps(config).encode()), "layers": found}  # fmt: skip
    index = {**descriptor("manifest.v1+json", json.dumps(manifest).encode()),
             "annotations": {"org.opencontainers.image.ref.name": "latest"}}  # fmt: skip
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return layout


CURVES = {
    each.name: each
    for each in (
        Curve("files", "Files in the context, 4 KiB each", "files", "files", [1000, 5000, 20_000, 100_000, 500_000],
              ["first", "one edited", "unchanged"], files),
        Curve("steps", "RUN steps", "steps", "steps", [1, 10, 50, 100, 200], ["none cached", "cached"], steps),
        Curve("layers", "Layers of the base", "layers", "layers", [1, 10, 30, 60, 120],
              ["first", "new RUN", "cached"], layers),
        Curve("image", "Size of the base", "MB", "megabytes", [10, 100, 1000, 2000, 5000],
              ["first", "new RUN", "cached"], image),
    )
}  # fmt: skip
