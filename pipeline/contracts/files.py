"""Flag files by path: other people's, so anything may be there. Reading them blocks on no pipe and takes no memory."""

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.errors import ContractError, SettingsError
from contracts.flags import ContractBook, read_contracts

__all__ = ["find", "find_some", "read", "read_book"]

MOST_BYTES: Final = 256 * 1024  # a hundred times a usual flag file; YAML of that size is still read within seconds

_SUFFIXES: Final = frozenset({".yaml", ".yml"})


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


def read_book(paths: Sequence[Path]) -> ContractBook:
    """Return the contracts at the paths; raises SettingsError or ContractError for what is none."""
    texts: Mapping[str, str | ContractError] = read(find(paths))
    for text in texts.values():
        if isinstance(text, ContractError):
            raise text
    return read_contracts({file: text for file, text in texts.items() if isinstance(text, str)})


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            path.lstat()
            return [path]
        return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and not each.name.startswith("."))
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
            size = f"{status.st_size / 1024:,.0f} KiB"
            return ContractError(
                str(file), 0, "file", f"has {size}, more than 256 KiB; a flag file selects a route, no more"
            )
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return ContractError(str(file), line, "file", "is not UTF-8; save it as UTF-8")
    except OSError as error:
        return ContractError(str(file), 0, "file", f"cannot be read ({_why(error)}); mend it, or remove it")


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
