"""Results as text for a terminal and as Markdown. Both are made of what the JSON file holds."""

import statistics

from process import machine_line

SIZE_LIMIT = 1.05  # kiln's OCI file beside BuildKit's
BUSY_LIMIT = 0.15
MEGABYTE = 1e6


def duration(seconds: float) -> str:
    """Three digits, in the unit that a person would choose."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    return f"{seconds:.{2 if seconds < 9.95 else 1}f} s"


def spread(times: list[float]) -> str:
    """The median and, of several, the least and the most."""
    if not times:
        return "-"
    if len(times) == 1:
        return duration(times[0])
    low, high = duration(min(times)), duration(max(times))
    if low.split()[1] == high.split()[1]:
        low = low.split()[0]
    return f"{duration(statistics.median(times))} ({low}..{high})"


def ratio(scenario: dict) -> float | None:
    """The best peer's median in kiln's; where an OCI file is written, of those that write one."""
    medians = {name: statistics.median(times) for name, times in scenario["seconds"].items()}
    sizes = scenario["size_bytes"]
    peers = [seconds for name, seconds in medians.items() if name != "kiln" and ("kiln" not in sizes or name in sizes)]
    return min(peers) / medians["kiln"] if peers and "kiln" in medians else None


def size_cell(scenario: dict) -> str:
    """The size of kiln's OCI file, and beside BuildKit's."""
    sizes = scenario["size_bytes"]
    if "kiln" not in sizes:
        return ""
    text = f"{sizes['kiln'] / MEGABYTE:.1f} MB"
    if "buildkit" in sizes:
        share = sizes["kiln"] / sizes["buildkit"]
        text += f" ({share - 1:+.1%})" + ("!" if share > SIZE_LIMIT else "")
    return text


def rows(name: str, scenario: dict, builders: list[str]) -> list[list[str]]:
    """A scenario's row, and what is left of it beyond the commands that ran."""
    reached = ratio(scenario)
    cells = [spread(scenario["seconds"].get(builder, [])) for builder in builders]
    peak = f"{scenario['peak_bytes'] / MEGABYTE:.0f} MB" if scenario["peak_bytes"] else ""
    row = [name, *cells, f"{reached:.1f}" if reached else "", f"{scenario['goal']:g}", peak, size_cell(scenario)]
    found = [row]
    if own := scenario["own_seconds"]:
        beyond = {each: [total - part for total, part in zip(scenario["seconds"][each], own[each], strict=True)]
                  for each in own if len(own[each]) == len(scenario["seconds"].get(each, []))}  # fmt: skip
        for title, times in (("  its command", own), ("  beyond it", beyond)):
            found.append([title, *(spread(times.get(builder, [])) for builder in builders), "", "", "", ""])
    return found


def heads(builders: list[str]) -> list[str]:
    return ["", *builders, "ratio", "goal", "kiln's peak", "OCI file (to BuildKit's)"]


def notes(report: dict) -> list[str]:
    """What a reader of the figures has to know."""
    found, builders = [], report["builders"]
    found += [f"{name}: {each['note']}" for name, each in builders.items() if each.get("note")]
    for name, scenario in report["scenarios"].items():
        found += [f"{name}, {builder}: {shortened(why)}"
                  for builder, why in scenario["failed"].items()]  # fmt: skip
        found += [f"{name}, {builder}: {why}" for builder, why in scenario["differs"].items()]
        if scenario["repeats"].startswith("DIFFERENT"):
            found.append(f"{name}: kiln's OCI file is {scenario['repeats']}, for the same input")
        if scenario["busy"] > BUSY_LIMIT:
            found.append(f"{name}: {scenario['busy']:.0%} of the machine was busy with something else")
    checked = [name for name, each in report["scenarios"].items() if len(each["files"]) > 1 and not each["differs"]]
    if checked:
        found.append(f"the same files from every builder: {', '.join(checked)}")
    repeated = [name for name, each in report["scenarios"].items() if each["repeats"].startswith("identical")]
    if repeated:
        found.append(f"kiln's OCI file byte-identical from run to run: {', '.join(repeated)}")
    return found


def shortened(why: str) -> str:
    """First and last line of a failure."""
    lines = [line for line in why.splitlines() if line.strip()]
    return lines[0][:110] + (f" .. {lines[-1][:200]}" if len(lines) > 1 else "")


def builder_line(report: dict) -> str:
    return ", ".join(f"{name} {each['version']}" for name, each in report["builders"].items())


def text_rows(all_rows: list[list[str]], width: int = 23) -> str:
    """Rows for a terminal."""
    lines = []
    for first, *cells in all_rows:
        builders, rest = cells[:-4], cells[-4:]
        lines.append(f"{first:<15}" + "".join(f"{cell:<{width + 1}}" for cell in builders)
                     + f"{rest[0]:>6}{rest[1]:>6}{rest[2]:>13}  {rest[3]}".rstrip())  # fmt: skip
    return "\n".join(lines)


def markdown(report: dict) -> str:
    """The table for BENCHMARKS.md."""
    builders = list(report["builders"])
    lines = [f"{machine_line(report['machine'])}.", f"{builder_line(report)}.", ""]
    lines += ["| " + " | ".join(heads(builders)) + " |", "|---" * (len(builders) + 5) + "|"]
    for name, scenario in report["scenarios"].items():
        for first, *cells in rows(name, scenario, builders):
            title = f"{name}: {scenario['what']}" if first == name else first.strip().capitalize()
            lines.append("| " + " | ".join([title, *cells]) + " |")
    lines += ["", *(f"- {note}" for note in notes(report))]
    return "\n".join(lines) + "\n"
