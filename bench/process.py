"""Commands that are timed, and how busy the machine is.

A command's output goes to a file, its time is taken around start and end of the process: about 0.7 ms
of that are this program's own, for every builder alike.
"""

import contextlib
import os
import platform
import resource
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.001


class Failed(Exception):
    """A command that should have succeeded, with the end of what it said."""


class TookTooLong(Failed):
    """A command that was killed at its time limit."""


@dataclass
class Done:
    """A command that has ended well."""

    seconds: float
    text: str
    cpu_seconds: float = 0  # of the command and all that it has waited for
    peak_bytes: int = 0  # of the process itself, when it was asked for


def timed(*command, limit: float = 600, environment: dict | None = None, watch: bool = False,
          processors: set[int] | None = None) -> Done:  # fmt: skip
    """Run a command to its end. `watch` also polls its peak memory: such a run's time means nothing."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as out:
        before = os.sched_getaffinity(0)
        if processors:
            os.sched_setaffinity(0, processors)
        cpu_before, begin = cpu_of_children(), time.perf_counter()
        try:
            process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True)  # fmt: skip
        finally:
            if processors:
                os.sched_setaffinity(0, before)
        # a timer, since waiting with a time limit polls and would be part of the time
        timer = threading.Timer(limit, kill_group, [process.pid])
        timer.start()
        try:
            peak_bytes = poll_peak(process) if watch else 0
            status = process.wait()
            seconds = time.perf_counter() - begin
        except BaseException:
            kill_group(process.pid)
            process.wait()
            raise
        finally:
            timer.cancel()
        cpu_seconds = cpu_of_children() - cpu_before
        out.seek(0)
        text = out.read().decode(errors="replace")
    if status:
        kind, why = (TookTooLong, f"killed after {seconds:.0f} s") if seconds >= limit else (Failed, f"exit {status}")
        raise kind(f"{why}: {' '.join(words)}\n" + "\n".join(text.splitlines()[-20:]))
    return Done(seconds, text, cpu_seconds, peak_bytes)


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def poll_peak(process: subprocess.Popen) -> int:
    """The largest resident set of a process, in bytes.

    The kernel keeps it for each address space (VmHWM), so commands that the process starts are not
    in it, and polling misses only what grows in the last millisecond. (`ru_maxrss` of a child would
    be the largest of the child, of its own children, and of what it was forked from.)
    """
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        time.sleep(POLL_SECONDS)
    return peak


def busy_share(seconds: float = 0.5) -> float:
    """The share of all processors' time that was not idle, while this program slept."""

    def ticks() -> tuple[int, int]:
        fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def settle(limit: float = 10, quiet: float = 0.15) -> float:
    """Wait until what is written is on the disk and the machine is quiet; gives how busy it was at last."""
    os.sync()
    end = time.monotonic() + limit
    while (share := busy_share()) > quiet and time.monotonic() < end:
        time.sleep(0.5)
    return share


def machine(work: Path) -> dict:
    """What figures depend on."""
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024 // 1024
    kind = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", work], capture_output=True, text=True, check=False)
    return {"processor": models[0] if models else platform.machine(), "cores": len(os.sched_getaffinity(0)),
            "memory_gib": memory, "kernel": platform.release(), "file_system": kind.stdout.strip(),
            "load": round(os.getloadavg()[0], 2), "busy": round(busy_share(1), 3)}  # fmt: skip


def machine_line(facts: dict) -> str:
    return (f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
            f"{facts['file_system']}; load {facts['load']}, {facts['busy']:.0%} busy at the start")  # fmt: skip
