"""The page of `kiln report --format html` in a browser: its numbers are those of the JSON, and it can be read."""

import json
import shutil
import unittest

from browser import Browser, contrast
from support import Kiln, Workspace, require_tools

DOCKERFILE = """
FROM scratch AS tools
COPY sh /bin/sh
RUN ["/bin/sh", "-c", "echo tools > /tools"]

FROM tools AS app
COPY word /
RUN ["/bin/sh", "-c", "read w < /word; echo \\"<b>&$w\\" > /made; test $w != fail"]

FROM tools AS documentation-of-all-that-there-is
COPY word /a-directory-with-a-name/that-goes-on/and-on/until-it-is-wider/than-any-telephone/word
"""
SETTINGS = '[budget]\nclean = "1h"\ncached = "1h"\nhit-rate = 99.5\nlayers = 1\nimage-size = "1GB"\n'

# Each card of the page by its title: the texts of its rows, the header apart.
TABLES = """
const rows = table => [...table.rows].filter(row => row.querySelector("td"));
const cells = row => [...row.cells].map(cell => cell.innerText.trim());
return Object.fromEntries([...document.querySelectorAll("section")].map(card =>
  [card.querySelector("h2").innerText, [...card.querySelectorAll("table")].flatMap(rows).map(cells)]));
"""
# Each text with its colour and what it stands on; each bar with its own.
COLOURS = """
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const of = (element, key) => [element.textContent.trim(), getComputedStyle(element)[key], behind(element)];
const texts = [...document.querySelectorAll("body *")].filter(element =>
  [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
const drawn = element => element.closest("svg") && element.tagName !== "title";
const html = texts.filter(element => !element.closest("svg") && !["STYLE", "TITLE"].includes(element.tagName));
return {
  page: getComputedStyle(document.body).backgroundColor,
  texts: [...html.map(element => of(element, "color")), ...texts.filter(drawn).map(element => of(element, "fill"))],
  bars: [...document.querySelectorAll("svg rect")].map(element => of(element, "fill")),
};
"""
# What is wider than the window, but for what scrolls on its own.
TOO_WIDE = """
const scrolls = element => element && (/auto|scroll/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
const right = document.documentElement.clientWidth + 0.5;
const wide = [...document.querySelectorAll("body *")].filter(element =>
  element.getBoundingClientRect().right > right && !scrolls(element.parentElement));
const page = document.documentElement;
return [page.scrollWidth > page.clientWidth, ...wide.map(element => element.outerHTML.slice(0, 80))].filter(Boolean);
"""


def milliseconds(number: int) -> str:
    """A time as kiln writes it."""
    if number < 100:
        return f"{number}ms"
    if number < 10_000:
        return f"{number / 1000:.2f}s"
    seconds, rest = divmod(number, 1000)
    return f"{seconds}.{rest // 100}s" if seconds < 60 else f"{seconds // 60}m{seconds % 60:02}s"


def size(number: int) -> str:
    """Bytes as kiln writes them: three digits."""
    if number < 1000:
        return f"{number}B"
    value, unit = number / 1000, 0
    while value >= 999.5:
        value, unit = value / 1000, unit + 1
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{['kB', 'MB', 'GB', 'TB'][unit]}"


def percent(rate: dict) -> str:
    return f"{100 * rate['cached'] / rate['steps']:.0f}%" if rate["steps"] else "100%"


class ReportPage(Workspace):
    """A project that was built often, its report in both forms, and a browser that shows one."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("busybox", "chromedriver", "chromium")
        cls.kiln = Kiln(cls.work / "store")
        cls.project = cls.work / "project"
        cls.project.mkdir()
        shutil.copy(shutil.which("busybox"), cls.project / "sh")
        (cls.project / "Dockerfile").write_text(DOCKERFILE)
        (cls.project / "kiln.toml").write_text(SETTINGS)
        for word in ["one", "one", "two", "two", "fail", "three", "three"]:
            cls.build(word)
        cls.report = json.loads(cls.kiln("report", "--format=json", cwd=cls.project).stdout)
        cls.page = cls.work / "report.html"
        cls.page.write_text(cls.kiln("report", "--format=html", cwd=cls.project).stdout)
        cls.browser = cls.enterClassContext(Browser())

    @classmethod
    def build(cls, word: str) -> None:
        (cls.project / "word").write_text(f"{word}\n")
        targets = ["--target=app", "--target=documentation-of-all-that-there-is"]
        cls.kiln("build", *targets, "-t", "app", ".", cwd=cls.project, check=word != "fail")

    def setUp(self):
        self.browser.resize(1280)
        self.browser.prefer("light")
        self.browser.said(), self.browser.requested()
        self.browser.open(self.page)

    def text(self, identity: str) -> str:
        return self.browser.evaluate(f"return document.getElementById('{identity}').innerText")

    def test_the_builds_are_what_they_were(self):
        kinds = [build["kind"] for build in self.report["builds"]]
        self.assertEqual(kinds, ["clean", "cached", "edit", "cached", "failed", "edit", "cached"])

    def test_numbers_are_those_of_the_json(self):
        self.assertEqual(self.text("hit-rate"), percent(self.report["rate"]))
        for kind in self.report["kinds"]:
            if kind["kind"] != "failed":
                self.assertEqual(self.text(kind["kind"]), milliseconds(kind["median_ms"]))

    def test_tables_are_those_of_the_json(self):
        tables = self.browser.evaluate(TABLES)
        kinds = [
            [kind["kind"], str(len(kind["durations_ms"])), milliseconds(kind["median_ms"]), milliseconds(kind["durations_ms"][-1])]
            for kind in self.report["kinds"]
        ]  # fmt: skip
        self.assertEqual([row[:4] for row in tables["Kinds of builds"]], kinds)
        stages = [
            [stage["stage"], str(stage["rate"]["steps"]), percent(stage["rate"]), milliseconds(stage["spent_ms"])]
            for stage in self.report["stages"]
        ]
        self.assertEqual([row[:4] for row in tables["Stages"]], stages)
        causes = [[str(cause["builds"]), milliseconds(cause["cost_ms"])] for cause in self.report["causes"][:8]]
        self.assertEqual([row[1:3] for row in tables["What made steps run"]], causes)
        path = next(rows for title, rows in tables.items() if title.startswith("Critical path"))
        self.assertEqual([row[1] for row in path], [milliseconds(step["duration_ms"]) for step in self.report["critical_path"]])
        for step, row in zip(self.report["critical_path"], path, strict=True):
            self.assertTrue(step["name"].startswith(row[0].rstrip("…")), row)
        slowest = [step for step in self.report["steps"] if step["median_ms"]][:8]
        ran = [
            [str(step["rate"]["steps"] - step["rate"]["cached"]), percent(step["rate"]), milliseconds(step["median_ms"])]
            for step in slowest
        ]
        self.assertEqual([row[1:4] for row in tables.get("Slowest steps", [])], ran)

    def test_sizes_are_those_of_the_json(self):
        image = max(self.report["images"], key=lambda image: image["size_bytes"])
        self.assertEqual(self.text("image-size"), size(image["size_bytes"]))
        context = self.report["context"]
        self.assertEqual(self.text("context-size"), size(context["size_bytes"]))
        files = [[file["path"], size(file["size_bytes"])] for file in context["largest"][:8]]
        self.assertEqual(self.browser.evaluate(TABLES)["Largest files of the context"], files)

    def test_budgets_are_those_of_the_json(self):
        shown = self.browser.evaluate(TABLES)["Budgets"]
        words = [[budget["key"], "kept" if budget["kept"] else "not kept"] for budget in self.report["budgets"]]
        self.assertEqual([[row[0], row[-1]] for row in shown], words)
        self.assertIn(["layers", "not kept"], words)
        self.assertIn(["clean", "kept"], words)

    def test_each_build_is_a_bar(self):
        titles = self.browser.evaluate("return [...document.querySelectorAll('svg rect title')].map(t => t.textContent)")
        bars = [
            f"b{build['id']}: {build['kind']}, {milliseconds(build['duration_ms'])}, {percent(build['rate'])} cached"
            for build in self.report["builds"]
        ]
        self.assertEqual(titles, bars)

    def test_nothing_is_loaded_and_nothing_is_wrong(self):
        self.assertEqual(self.browser.requested(), [self.page.as_uri()])
        self.assertEqual(self.browser.said(), [])
        self.assertEqual(self.browser.evaluate("return document.compatMode"), "CSS1Compat")
        # An instruction holds `<b>`: it is text.
        self.assertIsNone(self.browser.evaluate("return document.querySelector('td b')"))

    def test_it_can_be_read_by_day_and_by_night(self):
        pages = []
        for scheme in ["light", "dark"]:
            self.browser.prefer(scheme)
            colours = self.browser.evaluate(COLOURS)
            pages.append(colours["page"])
            self.assertGreater(len(colours["texts"]), 50)
            for text, ink, paper in colours["texts"]:
                with self.subTest(scheme=scheme, text=text):
                    self.assertGreaterEqual(contrast(ink, paper), 4.5, f"{ink} on {paper}")
            for title, ink, paper in colours["bars"]:
                with self.subTest(scheme=scheme, bar=title):
                    self.assertGreaterEqual(contrast(ink, paper), 3, f"{ink} on {paper}")
        light, dark = pages
        self.assertGreater(contrast(light, "rgb(0, 0, 0)"), 15)
        self.assertGreater(contrast(dark, "rgb(255, 255, 255)"), 15)

    def test_it_fits_on_narrow_screens(self):
        for width in [320, 375, 768, 1280]:
            with self.subTest(width=width):
                self.browser.resize(width)
                self.assertEqual(self.browser.evaluate(TOO_WIDE), [])


if __name__ == "__main__":
    unittest.main()
