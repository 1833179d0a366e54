"""How a command ends: by its exit code, with all said that it had to say, and before anything else can run."""

import os
import subprocess
import sys

import pytest

from pipeline.leaving import leaving


def left(*lines: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program that leaves after these lines; more output of it would follow."""
    block = "".join(f"    {line}\n" for line in lines)
    program = f"import atexit, sys\nfrom pipeline.leaving import leaving\nwith leaving():\n{block}print('stayed')\n"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", program], env=buffered, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize(
    ("last", "code"),
    [
        pytest.param("pass", 0, id="end of the block"),
        pytest.param("sys.exit()", 0, id="exit without a code"),
        pytest.param("sys.exit(3)", 3, id="exit code"),
    ],
)
def test_process_ends_with_the_block_and_its_code(last: str, code: int) -> None:
    ended = left("print('said')", "print('told', file=sys.stderr)", last)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("said\n", "told\n", code)


def test_what_is_registered_to_run_at_exit_runs() -> None:
    assert left("atexit.register(print, 'closed')", "print('said')").stdout == "said\nclosed\n"


def test_other_exceptions_pass() -> None:
    with pytest.raises(ZeroDivisionError), leaving():
        _ = 1 / 0


def test_output_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        ended = left("print('said')", stdout=full.fileno())
    assert "No space left on device" in ended.stderr
    assert ended.returncode != 0


def test_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = left("print('said')", stdout=writing)
    os.close(writing)
    assert (ended.stderr, ended.returncode) == ("", 0)
