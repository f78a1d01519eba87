"""A figure of several curves as SVG, written by hand: both axes logarithmic, in tones that are
legible on light and dark pages.

A colour is what was done, a full line is kiln, a dashed one a peer. Nothing but text and lines, so
that a difference between two runs can be read.
"""

import math
from dataclasses import dataclass
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 500, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 46
COLOURS = ["#2f7ed8", "#e08214", "#3a9d5d"]  # each has contrast on white and on black
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6e7781 }
  .title { font-size: 14px; font-weight: 600 }
  .grid { stroke: #8b949e; stroke-opacity: .22; stroke-width: 1 }
  .axis { fill: none; stroke: #8b949e; stroke-width: 1 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
  .peer { stroke-dasharray: 5 5; stroke-width: 1.5 }
"""


@dataclass
class Line:
    """What one builder took for one kind of build: seconds by number of units."""

    label: str
    colour: int
    is_peer: bool
    points: list[tuple[float, float]]


@dataclass
class Panel:
    """One curve."""

    title: str
    axis: str
    lines: list[Line]


@dataclass
class Scale:
    """A logarithmic axis: from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.start + share * (self.end - self.start)

    def decades(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def scale(values: list[float], start: float, end: float, whole: bool) -> Scale:
    """An axis that holds all values; `whole`: from one power of ten to another."""
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = (math.floor(low), math.ceil(high)) if whole else (low, high)
    return Scale(10**low, 10 ** (high if high > low else low + 1), start, end)


def number(value: float) -> str:
    """1, 200, 5k."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def text(x: float, y: float, words: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def grid(panel: Panel, across: Scale, up: Scale) -> list[str]:
    """Title, axes, and lines at powers of ten."""
    right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM
    found = [text(LEFT, 22, panel.title, extra=' class="title"')]
    for value in up.decades():
        found.append(f'<path class="grid" d="M{LEFT} {up(value):.1f}H{right}"/>')
        found.append(text(LEFT - 8, up(value) + 4, seconds(value), "end"))
    for value in across.decades():
        found.append(f'<path class="grid" d="M{across(value):.1f} {TOP}V{bottom}"/>')
        found.append(text(across(value), bottom + 18, number(value), "middle"))
    found.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    found.append(text((LEFT + right) / 2, bottom + 36, panel.axis, "middle"))
    return found


def apart(wanted: list[float], least: float = 14) -> list[float]:
    """Places of labels near the wanted ones, none on another."""
    order = sorted(range(len(wanted)), key=lambda each: wanted[each])
    places, last = list(wanted), -math.inf
    for each in order:
        last = places[each] = max(wanted[each], last + least)
    return places


def draw(panel: Panel) -> list[str]:
    """One panel, from its upper left corner."""
    points = [point for line in panel.lines for point in line.points]
    across = scale([x for x, _ in points], LEFT, PANEL_WIDTH - RIGHT, whole=False)
    up = scale([y for _, y in points], PANEL_HEIGHT - BOTTOM, TOP, whole=True)
    found = grid(panel, across, up)
    places = apart([up(line.points[-1][1]) for line in panel.lines])
    for line, place in zip(panel.lines, places, strict=True):
        colour = COLOURS[line.colour]
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
        kind = "line peer" if line.is_peer else "line"
        found.append(f'<path class="{kind}" stroke="{colour}" d="M{path}"/>')
        if not line.is_peer:
            found += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in line.points]
        found.append(text(across(line.points[-1][0]) + 8, place + 4, line.label, extra=f' style="fill:{colour}"'))
    return found


def svg(panels: list[Panel], columns: int = 2) -> str:
    """All panels in a grid."""
    rows = math.ceil(len(panels) / columns)
    columns = min(columns, len(panels))
    width, height = columns * PANEL_WIDTH, rows * PANEL_HEIGHT
    found = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
             f"<style>{STYLE}</style>"]  # fmt: skip
    for position, panel in enumerate(panels):
        place = f"{position % columns * PANEL_WIDTH} {position // columns * PANEL_HEIGHT}"
        found += [f'<g transform="translate({place})">', *draw(panel), "</g>"]
    return "\n".join([*found, "</svg>"]) + "\n"
