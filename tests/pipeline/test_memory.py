"""Freed memory stays with the process."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource
import pyarrow as pa
from pipeline.memory import hold_memory

hold_memory()
assert pa.default_memory_pool().backend_name == "system"

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def test_a_buffer_that_comes_and_goes_has_its_pages_once(checkout: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=checkout, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400  # of 4,096
