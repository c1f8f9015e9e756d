"""CPU and memory of a process and its children, read from ``/proc`` (Linux)."""

import os
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


class Usage(NamedTuple):
    """Seconds since the process began."""

    cpu: float  # user and system
    waited: float  # ready to run, while its core served other processes; at least so much


def usage(pid: int) -> Usage:
    """What ``pid`` and its living descendants have used so far.

    From the scheduler's own nanoseconds where the kernel keeps them; else from clock ticks, which are 10 ms and know of
    no waiting. Threads of one process wait for each other, too: what counts is how long the busiest of them waited for
    longer than the others ran.
    """
    cpu = waited = 0.0
    for member in tree(pid):
        threads: list[tuple[float, float]] = []
        for path in Path(f"/proc/{member}/task").glob("*/schedstat"):
            ran, delayed, _ = path.read_text().split()
            threads.append((int(ran) / 1e9, int(delayed) / 1e9))
        if threads:
            total = sum(ran for ran, _ in threads)
            busiest, delay = max(threads)
            cpu += total
            waited += delay - (total - busiest)
        else:
            # The command's name may hold spaces and parentheses: count the fields after the last one.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return Usage(cpu, waited)


def by_thread(pid: int) -> tuple[float, float]:
    """CPU seconds of the main thread of ``pid``, and of its living other ones; by the scheduler's clock."""
    main = others = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran = int((task / "schedstat").read_text().split()[0]) / 1e9
        if task.name == str(pid):
            main += ran
        else:
            others += ran
    return main, others


def rss_bytes(pid: int) -> int:
    """Resident memory of ``pid`` and its descendants; pages they share are counted once for each."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total
