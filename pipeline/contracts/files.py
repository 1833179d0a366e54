"""Flag files by path: other people's, so anything may be there. Reading them blocks on no pipe and takes no memory."""

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.errors import ContractError, SettingsError
from contracts.flags import ContractBook, read_contracts

__all__ = ["MOST_BYTES", "SUFFIXES", "book", "decoded", "find", "find_some", "read", "too_large"]

MOST_BYTES: Final = 256 * 1024  # a hundred times a usual flag file; YAML of that size is still read within seconds

SUFFIXES: Final = (".yaml", ".yml")


def find(paths: Sequence[Path]) -> list[Path]:
    """Return the flag files that the paths name: files as given, of directories those that a worker reads.

    Raises SettingsError where a path is not there.
    """
    return list(dict.fromkeys(file for path in paths for file in _files(path)))


def find_some(paths: Sequence[Path]) -> list[Path]:
    """Return what `find` does; raises SettingsError too where it finds nothing."""
    files = find(paths)
    if not files:
        told = ", ".join(map(str, paths))
        raise SettingsError(f"{told}: no flag file (*.yaml) is there; add one, or name another directory")
    return files


def read(files: Iterable[Path]) -> dict[str, str | ContractError]:
    """Return the text of each file by its path, or what is wrong with it."""
    return {str(file): _text(file) for file in files}


def book(texts: Mapping[str, str | ContractError]) -> ContractBook:
    """Return the contracts of texts by name; raises ContractError for the first that is none."""
    for text in texts.values():
        if isinstance(text, ContractError):
            raise text
    return read_contracts({file: text for file, text in texts.items() if isinstance(text, str)})


def decoded(file: str, data: bytes) -> str | ContractError:
    """Return the text of a file's bytes, or what is wrong with them."""
    if len(data) > MOST_BYTES:
        return too_large(file, len(data))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return ContractError(file, line, "file", "is not UTF-8; save it as UTF-8")


def too_large(file: str, size: int) -> ContractError:
    """Return what is wrong with a file of so many bytes."""
    told = f"has {size / 1024:,.0f} KiB, more than {MOST_BYTES // 1024} KiB; a flag file selects a route, no more"
    return ContractError(file, 0, "file", told)


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            path.lstat()
            return [path]
        return sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and not each.name.startswith("."))
    except FileNotFoundError:
        raise SettingsError(f"{path}: is not there; name a flag file or a directory of them") from None
    except OSError as error:
        raise SettingsError(f"{path}: {_why(error)}; name a flag file or a directory of them") from None


def _text(file: Path) -> str | ContractError:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return ContractError(str(file), 0, "file", "is no plain file; remove it, or name another")
        if status.st_size > MOST_BYTES:
            return too_large(str(file), status.st_size)
        return decoded(str(file), file.read_bytes())
    except OSError as error:
        return ContractError(str(file), 0, "file", f"cannot be read ({_why(error)}); mend it, or remove it")


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
