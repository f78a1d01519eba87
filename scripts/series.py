"""Twenty commits as a team makes them to examples/ares in a week or two, for scripts/demo.

Each has a title and edits: a file, a text that is in it exactly once (None: the end of the file), and what takes
its place. A commit without edits is a build of what is built already. `Series.apply` refuses an edit whose text is
not there: the series follows the project, or says so.
"""

from dataclasses import dataclass
from pathlib import Path

API, TASKS, SETTINGS = "src/ares/api.py", "src/ares/tasks.py", "src/ares/settings.py"
HUNDRED, TWO_HUNDRED = "le=5000)] = 100", "le=5000)] = 200"
APT_OF_BASE = """    && apt-get install -qq -y --no-install-recommends {} sqlite3 \\
    && groupadd --gid 10001 appuser \\
    && useradd --uid 10001 --gid appuser --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin appuser \\
    && install -d -o appuser -g appuser /app /var/lib/ares"""
TEST_OF_SETTINGS = """

def test_readings_are_kept_for_two_months() -> None:
    assert Settings().keep_days == 60
"""
TEST_OF_LISTING = """

def test_a_listing_may_be_long(client: TestClient) -> None:
    assert client.get("/readings", params={"limit": 5000}).status_code == 200
    assert client.get("/readings", params={"limit": 5001}).status_code == 422
"""


class Stale(Exception):
    """An edit that does not fit the project any more."""


@dataclass(frozen=True)
class Commit:
    """A change of the project; `relock` when it changes what the lock file holds."""

    title: str
    edits: tuple[tuple[str, str | None, str], ...] = ()
    relock: bool = False

    def apply(self, project: Path) -> None:
        """Edit the files of a project."""
        for name, old, new in self.edits:
            path = project / name
            text = path.read_text()
            if old is None:
                path.write_text(text + new)
            elif text.count(old) == 1:
                path.write_text(text.replace(old, new))
            else:
                raise Stale(f"{self.title!r} edits {name}, where {old!r} is {text.count(old)} times")


COMMITS = [
    Commit("api: a listing may have 5000 readings", ((API, "le=1000", "le=5000"),)),
    Commit("tests: how long a listing may be", (("tests/test_api.py", None, TEST_OF_LISTING),)),
    Commit("readme: what a rover sends", (("README.md", None, "\nA rover sends one reading a request.\n"),)),
    Commit("tasks: a webhook has ten seconds to answer", ((TASKS, "timeout=5", "timeout=10"),)),
    Commit("(the job of that commit runs again)"),
    Commit(
        "settings: readings are kept for 60 days, with a test",
        (
            (SETTINGS, "keep_days: int = Field(default=30", "keep_days: int = Field(default=60"),
            ("tests/test_settings.py", None, TEST_OF_SETTINGS),
        ),
    ),
    Commit("ci: a comment in the workflow", ((".github/workflows/docker-build-cache.yml", None, "# Owner: platform\n"),)),
    Commit("lint: ruff also looks for slow code", (("pyproject.toml", '"PT", "RUF"', '"PERF", "PT", "RUF"'),)),
    Commit(
        "database: sensors have an index",
        (
            (
                "src/ares/database.py",
                "sensor: Mapped[str] = mapped_column(String(64))\n    value",
                "sensor: Mapped[str] = mapped_column(String(64), index=True)\n    value",
            ),
        ),
    ),
    Commit(
        "deps: tenacity, for retries",
        (("pyproject.toml", '    "uvicorn[standard]', '    "tenacity>=9",\n    "uvicorn[standard]'),),
        relock=True,
    ),
    Commit("docker: the probe of production asks less often", (("Dockerfile", "--interval=10s", "--interval=15s"),)),
    Commit("api: a listing has 200 readings", ((API, HUNDRED, TWO_HUNDRED),)),
    Commit("revert of that: customers count on 100", ((API, TWO_HUNDRED, HUNDRED),)),
    Commit("tests: what the fixtures are for", (("tests/conftest.py", "Each test has", "Every test has"),)),
    Commit("worker: summaries every five minutes", (("src/ares/worker.py", "*/10", "*/5"),)),
    Commit(
        "docker: curl in the base image, to look around",
        (("Dockerfile", APT_OF_BASE.format("tini"), APT_OF_BASE.format("tini curl")),),
    ),
    Commit("compose: a note about the broker", (("docker-compose.yml", None, "# The broker keeps nothing.\n"),)),
    Commit("healthcheck: a probe may take three seconds", (("src/ares/healthcheck.py", "timeout=2", "timeout=3"),)),
    Commit("readme: where settings come from", (("README.md", None, "\nSettings come from the environment.\n"),)),
    Commit(
        "release 0.2.0",
        (
            ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"'),
            ("src/ares/__init__.py", '"0.1.0"', '"0.2.0"'),
        ),
        relock=True,
    ),
]
