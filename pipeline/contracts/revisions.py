"""Flag files as they were at a revision of git: `main:flags`, as git itself writes it. Nothing is changed."""

import subprocess
from typing import Final

from contracts.errors import ContractError, SettingsError
from pipeline.contracts.files import MOST_BYTES, SUFFIXES, decoded, too_large

__all__ = ["is_revision", "read_revision"]

_TIMEOUT_S: Final = 30.0
_FILES: Final = frozenset({b"100644", b"100755"})  # modes of plain files


def is_revision(place: str) -> bool:
    """Return whether the text has the form of a place in a revision."""
    revision, colon, _ = place.partition(":")
    return bool(colon and revision) and not place.startswith("-")


def read_revision(place: str) -> dict[str, str | ContractError]:
    """Return the text of each flag file there by its place, or what is wrong with it.

    Raises SettingsError where git, the revision or the path is not there.
    """
    if _git("cat-file", "-t", place).strip() == b"blob":
        return {place: _text(place, int(_git("cat-file", "-s", place)))}
    texts: dict[str, str | ContractError] = {}
    for entry in _git("ls-tree", "-z", "-l", place).split(b"\0")[:-1]:
        description, _, name = entry.partition(b"\t")
        mode, _, _, size = description.split()
        file = f"{place.rstrip('/')}{'' if place.endswith(':') else '/'}{name.decode(errors='surrogateescape')}"
        if file.startswith(".", file.rfind("/") + 1) or not file.endswith(SUFFIXES):
            continue
        if mode not in _FILES:
            texts[file] = ContractError(file, 0, "file", "is no plain file; remove it, or name another")
        else:
            texts[file] = _text(file, int(size))
    return texts


def _text(place: str, size: int) -> str | ContractError:
    return too_large(place, size) if size > MOST_BYTES else decoded(place, _git("cat-file", "blob", place))


def _git(*arguments: str) -> bytes:
    place = arguments[-1]
    try:
        asked = subprocess.run(["git", *arguments], capture_output=True, check=False, timeout=_TIMEOUT_S)  # noqa: S603, S607 - no shell, and no place begins with -
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{place}: git does not answer ({type(error).__name__}); name a path instead") from None
    if asked.returncode:
        told = asked.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise SettingsError(f"{place}: is not there, nor does git have it ({told[0]}); name a path or REVISION:PATH")
    return asked.stdout
