"""Runs a program and tells what it took: a process of its own, because a child starts with its parent's peak memory.

python -m benchmarks.end_to_end.measure USAGE.json PROGRAM ARGUMENTS...
"""

import json
import os
import sys
import time


def main() -> None:
    """Run the program, and write what it took to the file named first.

    Wall time, CPU time and the system's part of it are in seconds, peak resident memory in bytes.
    """
    into, *command = sys.argv[1:]
    began = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    taken = {
        "wall": time.monotonic() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "system": usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "exit": os.waitstatus_to_exitcode(status),
    }
    with open(into, "w", encoding="utf-8") as file:  # noqa: PTH123 -- pathlib is memory, too
        json.dump(taken, file)


if __name__ == "__main__":
    main()
