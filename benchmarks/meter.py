"""CPU and memory of a process and its children, read from ``/proc`` (Linux)."""

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time used so far by ``pid`` and its living descendants, user and system.

    The scheduler's own nanoseconds where the kernel keeps them per thread; else clock ticks, which are 10 ms.
    """
    total = 0.0
    for member in tree(pid):
        schedstats = list(Path(f"/proc/{member}/task").glob("*/schedstat"))
        if schedstats:
            total += sum(int(path.read_text().split()[0]) for path in schedstats) / 1e9
        else:
            # The command's name may hold spaces and parentheses: count the fields after the last one.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of ``pid`` and its descendants; pages they share are counted once for each."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total
