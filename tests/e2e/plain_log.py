"""Read plain progress, in the form that BuildKit and kiln share.

    #12 [app 1/1] RUN uv pip install
    #12 CACHED
"""

import re

HEADER = re.compile(r"^#(\d+) \[([\w.-]+)[^\]]*\] ([A-Z]+)\b(.*)$")
STATUS = re.compile(r"^#(\d+) (CACHED|DONE|ERROR|CANCELED)\b")


def read_steps(log: str) -> list[tuple[str, str, str, str]]:
    """Stage, instruction, rest of the line and status of each step, without FROM and internals."""
    steps, status = {}, {}
    for line in log.splitlines():
        if header := HEADER.match(line):
            steps[header[1]] = (header[2], header[3], header[4].strip())
        elif end := STATUS.match(line):
            status[end[1]] = end[2]
    return [
        (*step, status.get(number, "no status"))
        for number, step in steps.items()
        if step[1] != "FROM" and step[0] != "internal"
    ]


def steps_that_ran(log: str) -> list[tuple[str, str]]:
    """Stage and instruction of each step that did not come from the cache, sorted."""
    return sorted(step[:2] for step in read_steps(log) if step[3] != "CACHED")
