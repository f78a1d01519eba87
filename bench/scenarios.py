"""What is measured: each scenario makes its files once, and says what happens before each round."""

import random
import re
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
NAMES = ["app", "app-out", "app-edit", "app-empty", "runs-cached", "runs", "venv-edit",
         "files", "files-edit", "files-empty", "blob-empty"]  # fmt: skip


@dataclass
class Scenario:
    """A job, and what is done before each round: for all builders (`edit`) or to each (`empty`)."""

    name: str
    what: str
    job: Job
    goal: float  # the ratio to the best peer that kiln is to reach
    below: str  # the files that are compared: those below this directory of the image ..
    ending: str = ""  # .. whose names end so
    edit: Callable[[], object] = lambda: None
    edited: tuple[Path, str] | None = None  # a file of the context, and where it is in the image
    empty: bool = False
    hermetic: bool = True  # its commands give the same files whenever they run
    quick: bool = False  # milliseconds: five times as many rounds
    most_rounds: int = 99

    def rounds(self, asked: int) -> int:
        return min(asked * (5 if self.quick else 1), self.most_rounds)


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
    # a window of one text for each file: as different as sources are, made a hundred times as fast
    text = source_text(64 * FILE_BYTES, random_)
    for number in range(count):
        directory = top / "src" / f"d{number // 500:03}" / f"e{number % 500 // 50}"
        if number % 50 == 0:
            directory.mkdir(parents=True)
            text = text if number % 500 else source_text(64 * FILE_BYTES, random_)
        start = random_.randrange(len(text) - FILE_BYTES)
        head = f"# file {number}\n".encode()
        (directory / f"f{number}.txt").write_bytes((head + text[start:])[:FILE_BYTES])
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
        f"COPY app /app\nRUN {own_time('cp /app/main.py /venv/lib/main.py')}\n"
        "FROM bench-base\nCOPY --from=build /venv /venv\n"
    )
    return top


def own_time(command: str) -> str:
    """A command that also says how long it took, whoever runs it."""
    return f'begin=$(date +%s%N) && {command} && echo "own-ns=$(($(date +%s%N) - begin))"'


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


def make_ares(work: Path) -> Path:
    """examples/ares, whose step that an edit runs says how long its command took."""
    project = copy_ares(work / "ares")
    # Docker's engine cannot fetch a front end here, and needs none.
    text = (project / "Dockerfile").read_text().split("\n", 1)[1]
    command = "uv pip install --no-deps --no-installer-metadata --target=/app/site ."
    assert text.count(command) == 1, "examples/ares/Dockerfile has changed: what does an edit run?"
    text = text.replace(command, own_time(command))
    # older buildahs want absolute targets; WORKDIR is /app
    text = re.sub(r"(--mount=type=bind,\S*,target=)(?!/)", r"\1/app/", text)
    (project / "Dockerfile").write_text(text)
    return project


def app_scenarios(work: Path) -> list[Scenario]:
    project = make_ares(work)
    job = {"context": project, "target": "production", "layouts": ares_inputs(work),
           "build_args": {"PYTHON_IMAGE": "ares-python", "UV_IMAGE": "ares-uv"}}  # fmt: skip
    # with the interpreter's byte code left out: uv compiles in parallel, and its order may show
    compared = {"below": "app/site/ares", "ending": ".py", "hermetic": False}
    edited = (project / "src" / "ares" / "__init__.py", "app/site/ares/__init__.py")
    return [
        Scenario("app", "nine-stage app, nothing changed", Job(**job), 8, **compared, quick=True),
        Scenario("app-out", "the same with an OCI file, up to date", Job(**job, output=True), 8, **compared,
                 quick=True),
        Scenario("app-edit", "one source line of the app edited, OCI file", Job(**job, output=True), 2.5,
                 **compared, edit=lambda: edit_source(project), edited=edited),
        Scenario("app-empty", "nine-stage app from nothing, network included, OCI file", Job(**job, output=True), 1.7,
                 **compared, empty=True, most_rounds=3),
    ]  # fmt: skip


def files_scenarios(work: Path) -> list[Scenario]:
    files = make_files(work / "files", 50_000)
    edited = (files / "src" / "d050" / "e5" / "f25250.txt", "src/d050/e5/f25250.txt")
    compared = {"below": "src", "edited": edited}
    return [
        Scenario("files", "50,000 files in the context, nothing changed", Job(files), 10, **compared),
        Scenario("files-edit", "one of them edited, OCI file", Job(files, output=True), 7, **compared,
                 edit=append_line(edited[0])),
        Scenario("files-empty", "those files from an empty store, OCI file", Job(files, output=True), 5, **compared,
                 empty=True),
    ]  # fmt: skip


def blob_scenario(work: Path) -> Scenario:
    blob = work / "blob"
    blob.mkdir()
    random_ = random.Random(512)
    text, half = source_text(4 << 20, random_), 1 << 19
    with (blob / "big.bin").open("wb") as out:
        for _ in range(512):  # half of it compresses as source code does, half not at all
            start = random_.randrange(len(text) - half)
            out.write(random_.randbytes(half) + text[start : start + half])
    (blob / "Dockerfile").write_text("FROM scratch\nCOPY big.bin /data/\n")
    return Scenario("blob-empty", "one file of 512 MiB from an empty store, OCI file", Job(blob, output=True), 4,
                    "data", edited=(blob / "big.bin", "data/big.bin"), empty=True)  # fmt: skip


def make_all(work: Path, wanted: list[str]) -> list[Scenario]:
    """The scenarios of these names; only their files are made."""
    is_wanted = lambda *names: any(name in wanted for name in names)  # noqa: E731
    scenarios: list[Scenario] = []
    if is_wanted("app", "app-out", "app-edit", "app-empty"):
        scenarios += app_scenarios(work)
    base = {"bench-base": prepare() / "python-base"} if is_wanted("runs", "runs-cached", "venv-edit") else {}
    if is_wanted("runs", "runs-cached"):
        (work / "runs").mkdir()
        (work / "runs" / "Dockerfile").write_text("FROM bench-base\n" + "RUN true\n" * 20)
        scenarios += [
            Scenario("runs-cached", "20 RUN steps, nothing changed", Job(work / "runs", layouts=base), 10,
                     "usr/bin", quick=True),
            Scenario("runs", "20 x RUN true, none cached", Job(work / "runs", layouts=base, no_cache=True), 12,
                     "usr/bin"),
        ]  # fmt: skip
    if is_wanted("venv-edit"):
        venv = make_venv(work / "venv")
        main = venv / "app" / "main.py"
        scenarios.append(Scenario("venv-edit", "one source line, environment of 6,000 files copied, OCI file",
                                  Job(venv, layouts=base, output=True), 2.5, "venv", edit=append_line(main),
                                  edited=(main, "venv/lib/main.py")))  # fmt: skip
    if is_wanted("files", "files-edit", "files-empty"):
        scenarios += files_scenarios(work)
    if is_wanted("blob-empty"):
        scenarios.append(blob_scenario(work))
    run("sync")
    return [scenario for scenario in scenarios if scenario.name in wanted]
