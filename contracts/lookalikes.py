"""Names that look like others: letters of two alphabets, what is not seen, white space at an end."""

import unicodedata
from typing import Final

__all__ = ["oddity", "revealed"]

_ALIKE: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL"})
"""Alphabets, as Unicode's names of letters begin, with letters that look like those of another."""
_UNSEEN: Final = frozenset({"Cf", "Cc", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})  # Unicode's categories


def oddity(name: str) -> str | None:
    """Return what makes a name look like one that it is not; None where nothing does."""
    if name != name.strip():
        return "begins or ends with white space"
    unseen = next((each for each in name if each != " " and unicodedata.category(each) in _UNSEEN), None)
    if unseen is not None:
        return f"has a character that is not seen, U+{ord(unseen):04X}"
    alphabets = {unicodedata.name(each, "").split(" ")[0] for each in name if each.isalpha()} & _ALIKE
    if len(alphabets) > 1:
        return f"mixes {' and '.join(sorted(map(str.capitalize, alphabets)))} letters: {name!a}"
    return None


def revealed(name: str) -> str:
    """Return a name as it is to be shown: with escapes where it looks like another."""
    return name if oddity(name) is None else ascii(name)
