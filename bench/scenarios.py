"""What is measured: each scenario makes its files once, and says what happens before each round."""

import os
import random
import shutil
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builders import Job

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))
from support import Kiln, copy_ares, edit_source, prepare, run

FILE_BYTES = 4096


@dataclass
class Scenario:
    """A job, and what is done before each round: for all builders (`edit`) or to each (`empty`)."""

    name: str
    what: str
    job: Job
    edit: Callable[[], None] = lambda: None
    empty: bool = False
    rounds: int = 0  # 0: as asked for


def source_text(size_bytes: int, random_: random.Random) -> bytes:
    """Text that compresses as source code does."""
    words = ["".join(random_.choices("etaoinshrdlu_", k=random_.randint(2, 10))) for _ in range(600)]
    lines, size = [], 0
    while size < size_bytes:
        line = "    " * random_.randint(0, 3) + " ".join(random_.choices(words, k=random_.randint(2, 9)))
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines).encode()[:size_bytes]


def make_files(top: Path, count: int) -> Path:
    """A context of `count` small files and a Dockerfile that copies them."""
    random_ = random.Random(count)
    for number in range(count):
        directory = top / "src" / f"d{number // 500:03}" / f"e{number % 500 // 50}"
        if number % 50 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number}.txt").write_bytes(source_text(FILE_BYTES, random_))
    (top / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
    return top


def append_line(file: Path) -> Callable[[], None]:
    """One line more, that no build has seen."""

    def edit() -> None:
        with file.open("a") as out:
            out.write(f"edited {time.time_ns()}\n")

    return edit


def make_venv(top: Path) -> Path:
    """A project whose environment of many files is copied whole into the last stage, as most do."""
    random_ = random.Random(7)
    for number in range(6000):
        package = top / "site" / f"package{number // 100:02}"
        if number % 100 == 0:
            package.mkdir(parents=True)
        (package / f"module{number}.py").write_bytes(source_text(random_.randint(500, 30_000), random_))
    (top / "app").mkdir()
    (top / "app" / "main.py").write_text("print('hello')\n")
    (top / "Dockerfile").write_text(
        "FROM bench-base AS build\nCOPY site /venv/site\nRUN cp -r /venv/site /venv/lib\n"
        "COPY app /app\nRUN cp /app/main.py /venv/lib/main.py\n"
        "FROM bench-base\nCOPY --from=build /venv /venv\n"
    )
    return top


def ares_inputs(work: Path) -> dict[str, Path]:
    """The images of examples/ares as layouts, with this host's authorities in the base: a peer has no
    way to lend them to a RUN."""
    inputs, layouts = prepare(), {}
    maker = Kiln(work / "maker")
    context = work / "authorities"
    context.mkdir()
    bundle = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copy(bundle, context / "ca.crt")
    place = "/etc/ssl/certs/ca-certificates.crt"
    (context / "Dockerfile").write_text(f"FROM base\nCOPY ca.crt {place}\nENV SSL_CERT_FILE={place}\n")
    shutil.copytree(inputs / "uv", work / "uv")
    (work / "uv" / "Dockerfile").write_text("FROM scratch\nCOPY uv uvx /\n")
    jobs = {"ares-python": (context, ["--build-context", f"base=oci-layout://{inputs / 'python-base'}"]),
            "ares-uv": (work / "uv", [])}  # fmt: skip
    for name, (directory, options) in jobs.items():
        layouts[name] = work / name
        maker("build", "-q", *options, "-t", "latest", "-o", f"type=oci,tar=false,dest={layouts[name]}", directory)
    return layouts


def make_all(work: Path, wanted: list[str]) -> list[Scenario]:
    """The scenarios of these names, all when there are none; only their files are made."""
    is_wanted = lambda *names: not wanted or any(name in wanted for name in names)  # noqa: E731
    scenarios: list[Scenario] = []
    if is_wanted("app", "app-out", "app-edit", "app-empty"):
        layouts = ares_inputs(work)
        project = copy_ares(work / "ares")
        # Docker's engine cannot fetch a front end here, and needs none.
        text = (project / "Dockerfile").read_text()
        (project / "Dockerfile").write_text(text.split("\n", 1)[1])
        job = {"context": project, "target": "production", "layouts": layouts,
               "build_args": {"PYTHON_IMAGE": "ares-python", "UV_IMAGE": "ares-uv"}}  # fmt: skip
        scenarios += [
            Scenario("app", "nine-stage app, nothing changed", Job(**job)),
            Scenario("app-out", "the same as an OCI file, up to date", Job(**job, output=True)),
            Scenario("app-edit", "one source line of the app edited, OCI file", Job(**job, output=True),
                     edit=lambda: edit_source(project) and None),
            Scenario("app-empty", "nine-stage app from nothing, network included", Job(**job, output=True),
                     empty=True, rounds=3),
        ]  # fmt: skip
    base = {"bench-base": prepare() / "python-base"} if is_wanted("runs", "runs-cached", "venv-edit") else {}
    if is_wanted("runs", "runs-cached"):
        (work / "runs").mkdir()
        (work / "runs" / "Dockerfile").write_text("FROM bench-base\n" + "RUN true\n" * 20)
        scenarios += [
            Scenario("runs-cached", "20 RUN steps, nothing changed", Job(work / "runs", layouts=base)),
            Scenario("runs", "20 x RUN true, none cached", Job(work / "runs", layouts=base, no_cache=True)),
        ]
    if is_wanted("venv-edit"):
        venv = make_venv(work / "venv")
        scenarios.append(Scenario("venv-edit", "one source line, environment of 6,000 files copied, OCI file",
                                  Job(venv, layouts=base, output=True), append_line(venv / "app" / "main.py")))  # fmt: skip
    if is_wanted("files", "files-edit", "files-empty"):
        files = make_files(work / "files", 50_000)
        scenarios += [
            Scenario("files", "50,000 files in the context, nothing changed", Job(files)),
            Scenario("files-edit", "one of them edited, OCI file", Job(files, output=True),
                     append_line(files / "src" / "d050" / "e5" / "f25250.txt")),
            Scenario("files-empty", "those files from an empty store, OCI file", Job(files, output=True), empty=True),
        ]  # fmt: skip
    if is_wanted("blob-empty"):
        blob = work / "blob"
        blob.mkdir()
        random_ = random.Random(512)
        with (blob / "big.bin").open("wb") as out:
            for _ in range(512):
                out.write(random_.randbytes(1 << 19) + source_text(FILE_BYTES, random_) * 128)
        (blob / "Dockerfile").write_text("FROM scratch\nCOPY big.bin /\n")
        scenarios.append(Scenario("blob-empty", "one file of 512 MiB from an empty store, OCI file",
                                  Job(blob, output=True), empty=True))  # fmt: skip
    for scenario in scenarios:
        os.makedirs(scenario.job.context, exist_ok=True)
    run("sync")
    return [scenario for scenario in scenarios if is_wanted(scenario.name)]
