"""Text of strangers, made safe for a terminal: nothing in it moves the cursor, sets colours or hides other text."""

import unicodedata
from typing import Final

__all__ = ["safe", "safe_bytes", "shortened"]

_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control, format (among them bidirectional overrides), surrogates, private, unassigned, breaks."""


def safe(text: str) -> str:
    r"""Return the text with every control or invisible character as an escape such as `\n`, `\x1b` or `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(each) if unicodedata.category(each) in _HARMFUL else each for each in text)


def safe_bytes(data: bytes | None) -> str:
    r"""Return bytes as safe text: UTF-8 as it reads, other bytes as `\xff`; no bytes are `(none)`."""
    return "(none)" if data is None else safe(data.decode("utf-8", errors="backslashreplace"))


def shortened(text: str, most: int) -> str:
    """Return at most so many characters of the text, the last of them an ellipsis where some are missing."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
