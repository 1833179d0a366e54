"""What a running process takes, as Linux tells it."""

import os
from pathlib import Path

__all__ = ["child_of", "cpu_seconds", "resident_bytes"]


def child_of(pid: int) -> int | None:
    """Return the process that the process has started, if it has by now."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return int(children[0]) if children else None


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process since its start, of user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the memory that the process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
