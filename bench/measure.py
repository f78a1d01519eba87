"""One scenario, all builders: rounds in turn, and whether what they built is right.

What fails for one builder is kept as the reason why it has no figure, and ends nothing else.
"""

import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import images
from builders import Builder, KilnBuilder
from process import Failed, TookTooLong, settle, timed
from scenarios import Scenario
from support import CommandFailed, run

BUDGET_SECONDS = 60  # no further round for a builder that has used more on a scenario
EXPECTED = (Failed, CommandFailed, OSError)


@dataclass
class Result:
    """What is known about a scenario; lists and values by builder."""

    what: str
    goal: float
    seconds: dict[str, list[float]] = field(default_factory=dict)
    own_seconds: dict[str, list[float]] = field(default_factory=dict)  # of the commands themselves
    failed: dict[str, str] = field(default_factory=dict)  # why there is no figure
    differs: dict[str, str] = field(default_factory=dict)  # how an image is not kiln's
    size_bytes: dict[str, int] = field(default_factory=dict)  # of the OCI file
    files: dict[str, str] = field(default_factory=dict)  # how many, and their digest
    peak_bytes: int = 0  # kiln's own
    repeats: str = ""  # of kiln's OCI file: "identical ..", or what is wrong
    busy: float = 0  # share of the machine that others used when it began

    def median(self, builder: str) -> float:
        return statistics.median(self.seconds[builder])

    def drop(self, builder: str, why: str) -> None:
        """A builder has no figure here."""
        self.failed[builder] = why
        self.seconds.pop(builder, None)
        self.own_seconds.pop(builder, None)

    def as_json(self) -> dict:
        return asdict(self)


class Measurement:
    """A scenario with all builders."""

    def __init__(self, scenario: Scenario, builders: list[Builder], durable: bool):
        self.scenario, self.builders, self.durable = scenario, builders, durable
        self.result = Result(scenario.what, scenario.goal)

    def running(self) -> list[Builder]:
        """The builders that nothing is wrong with so far."""
        return [builder for builder in self.builders if builder.name not in self.result.failed]

    def attempt(self, action: Callable[[Builder], object], builder: Builder) -> None:
        """Do something with a builder; a failure is kept."""
        try:
            action(builder)
        except EXPECTED as error:
            if isinstance(error, TookTooLong):
                builder.gave_up = self.scenario.job.context
            self.result.drop(builder.name, str(error))

    def measure(self, rounds: int) -> Result:
        """Seconds of each round, sizes and checks."""
        for builder in self.builders:
            if builder.gave_up == self.scenario.job.context:
                self.result.drop(builder.name, "took too long with this project before")
        if not self.scenario.empty:
            self.warm_up()
        self.result.busy = round(settle(), 3)
        for number in range(self.scenario.rounds(rounds)):
            self.scenario.edit()
            # nobody always runs after the same other, on a page cache that it has warmed
            for builder in self.running()[:: 1 if number % 2 == 0 else -1]:
                if sum(self.result.seconds.get(builder.name, [])) < BUDGET_SECONDS:
                    self.attempt(self.one_round, builder)
        self.check()
        for builder in self.running():
            if isinstance(builder, KilnBuilder):
                self.attempt(self.look_closer, builder)
        return self.result

    def warm_up(self) -> None:
        """Fill the caches; not counted. What is measured is the second change, not the first."""
        for builder in self.running():
            self.attempt(lambda each: each.prepare(self.scenario.job), builder)
        for _ in range(2):
            for builder in self.running():
                self.attempt(lambda each: each.build(self.scenario.job), builder)
            self.scenario.edit()

    def one_round(self, builder: Builder) -> None:
        if self.scenario.empty:
            builder.reset()
            builder.prepare(self.scenario.job)
        run("sync")  # what another builder wrote is not written at the cost of this one
        done = builder.build(self.scenario.job)
        seconds = done.seconds + (timed("sync").seconds if self.durable else 0)
        self.result.seconds.setdefault(builder.name, []).append(seconds)
        own = re.findall(r"own-ns=(\d+)", done.text)
        if own and not self.scenario.empty:  # there, other commands run beside it
            self.result.own_seconds.setdefault(builder.name, []).append(sum(map(int, own)) / 1e9)
        if self.scenario.job.output and builder.output.exists():
            self.result.size_bytes[builder.name] = builder.output.stat().st_size

    def check(self) -> None:
        """Whether every builder's image has the files that it should have, the edited one as it is now."""
        found: dict[str, dict[str, str]] = {}
        for builder in self.running():
            self.attempt(lambda each: found.update({each.name: self.look(each)}), builder)
        expected = found.get("kiln", {})
        for name, listing in found.items():
            self.result.files[name] = f"{len(listing)} files, {images.digest(listing)[:16]}"
            if self.scenario.edited:
                local, path = self.scenario.edited
                if not listing.get(path, "").endswith(images.file_digest(local)):
                    self.result.drop(name, f"wrong result: /{path} is not what it should be")
            elif not listing:
                self.result.drop(name, f"wrong result: no files below /{self.scenario.below}")
            differing = [path for path in sorted({*listing, *expected}) if listing.get(path) != expected.get(path)]
            if expected and differing:
                first = f"/{differing[0]} is {listing.get(differing[0])}, kiln's {expected.get(differing[0])}"
                self.result.differs[name] = f"{len(differing)} files differ from kiln's: {first}"

    def look(self, builder: Builder) -> dict[str, str]:
        """The files that are compared, of a builder's image."""
        archive = builder.archive(self.scenario.job)
        listing = images.files(archive, self.scenario.below, self.scenario.ending)
        if not (self.scenario.job.output and builder.name == "kiln"):
            archive.unlink()
        return listing

    def look_closer(self, kiln: KilnBuilder) -> None:
        """kiln's memory in one more round, and whether its OCI file repeats itself."""
        self.scenario.edit()
        if self.scenario.empty:
            kiln.reset()
        self.result.peak_bytes = kiln.peak_bytes(self.scenario.job)
        if not self.scenario.job.output:
            return
        first, second = kiln.repeated(self.scenario.job, self.scenario.hermetic)
        how = "from two stores" if self.scenario.hermetic else "written twice"
        same = images.file_digest(first) == images.file_digest(second)
        self.result.repeats = f"identical, {how}" if same else f"DIFFERENT, {how}"
        for file in (first, second):
            file.unlink()
