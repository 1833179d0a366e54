"""What does not belong into a flag: keys and passwords by their look, prompts by their words. Says where, not what."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

__all__ = ["is_prompt", "secrets"]

# Other people's files: no pattern may go back over more than a few hundred characters.
_KNOWN: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (name, re.compile(shape))
    for name, shape in (
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY"),
        ("a key of a model provider", r"\bsk-(?:[A-Za-z0-9]{20,}|(?:ant|proj|or|svcacct|admin|lf)-[A-Za-z0-9_-]{8,})"),
        ("a key of a model provider", r"\b(?:gsk_|xai-|r8_|hf_|nvapi-|pplx-|lsv2_)[A-Za-z0-9_-]{16,}"),
        ("a key of a flag service", r"\b(?:sdk|mob|api)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
        ("an AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("a Google key", r"\bAIza[0-9A-Za-z_-]{30,}|\bya29\.[0-9A-Za-z_-]{20,}"),
        ("a GitHub or GitLab token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[\w-]{20,})"),
        ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/(?:services|workflows)/\w{8,}"),
        ("a payment key", r"\b[rsp]k_(?:live|test)_[0-9A-Za-z]{16,}"),
        ("a registry token", r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|dckr_pat_[\w-]{20,})"),
        ("a SendGrid or Twilio key", r"\bSG\.[\w-]{16,40}\.[\w-]{16}|\bSK[0-9a-f]{32}\b"),
        (
            "a key of a data or monitoring service",
            r"\b(?:dapi[0-9a-f]{32}|NRAK-[A-Z0-9]{20,}|pat\w{14}\.[0-9a-f]{40,})",
        ),
        ("a key of a secret store", r"\bhv[sb]\.[\w-]{20,}|\bAGE-SECRET-KEY-1\w{20,}"),
        ("an Azure key", r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/=]{20,}"),
        ("a signed token (JWT)", r"\beyJ[A-Za-z0-9_-]{8,400}\.eyJ[A-Za-z0-9_-]{8}"),
        ("a password in an address", r"[a-z0-9+.-]://[^\s/:@]{1,100}:[^\s/:@]{1,200}@"),
        ("a bearer token", r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}"),
        ("a password of HTTP", r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?basic\s{1,9}[A-Za-z0-9+/=]{8,}"),
        (
            "a random key",
            r"(?i)\w[ _-]?(?:key|token|secret)s?[\"']?\s{0,9}(?:[:=]|\bis\b)?\s{0,9}[\"']?[0-9a-f]{32,}\b",
        ),
        (
            "a password",
            r"(?i)(?:password|passwd|secret|api[_-]?key|access[_-]?key|access[_-]?token)[\"']?\s*[:=]\s*[\"']?[^\s\"',}]{8,}",
        ),
    )
)

_RUN: Final = re.compile(r"[A-Za-z0-9+/]{24,}")
_RANDOM: Final = 3.8  # bits a character: most random base 64 of that length has more, words have less
_MIXED: Final = 0.4  # share of neighbours of two classes: random text has 0.6, WordsLikeThese2026 have 0.3
_LEAST_DIGITS: Final = 2
_AWS: Final = 40  # characters of a secret key of AWS, which may have a single digit
_AWS_MIXED: Final = 0.36

_SENTENCE: Final = r"(?:^|[.!?:;\"'])[ \t]{0,40}"  # where one begins: the same words inside one may tell of users
_PROMPT: Final = re.compile(
    rf"{_SENTENCE}you (?:are|act as) (?:a|an|the|my|now)\b|\bact as (?:a|an) \w+ (?:assistant|agent|expert)"
    r"|^[ \t]*(?:system|user|assistant)[ \t]*:\s|<\|\w{1,40}\|>|\{\{[^{}]{0,100}\}\}|\[/?INST\]"
    r"|\b(?:ignore|follow|obey) (?:all |any )?(?:the |these |previous |following |above |prior )+instructions\b"
    rf"|{_SENTENCE}(?:(?:always|never|only) )?(?:answer|respond|reply) (?:only )?(?:in|with|as|using|briefly|only)\b"
    rf"|{_SENTENCE}(?:always|never) (?:answer|respond|reply|reveal|mention|disclose)\b"
    r"|\b(?:answer|respond|reply) (?:only )?(?:in|with) (?:json|xml|markdown)\b"
    r"|\blet's think step by step\b|\bdo not (?:reveal|mention|disclose) (?:this|these|your|the|that|any)\b",
    re.IGNORECASE | re.MULTILINE,
)


def secrets(text: str) -> Iterator[tuple[int, str]]:
    """Yield the 1-based line and the kind of what looks like a secret in a text, at most one a line."""
    for number, line in enumerate(text.splitlines(), 1):
        kind = next((name for name, shape in _KNOWN if shape.search(line)), None)
        if kind is None and any(_random(run) for run in _RUN.findall(line)):
            kind = "a random key"
        if kind is not None:
            yield number, kind


def is_prompt(text: str) -> bool:
    """Return whether the text reads like an instruction to a model."""
    return _PROMPT.search(text) is not None


def _random(run: str) -> bool:
    """Return whether characters look random: of all classes, well mixed, and hardly one twice (Shannon's entropy)."""
    least_digits, least_mixed = (1, _AWS_MIXED) if len(run) == _AWS else (_LEAST_DIGITS, _MIXED)
    if sum(map(str.isdigit, run)) < least_digits or run.lower() == run or run.upper() == run:
        return False
    mixed = sum(_class(one) != _class(other) for one, other in pairwise(run)) / (len(run) - 1)
    shares = [count / len(run) for count in Counter(run).values()]
    return mixed >= least_mixed and -sum(share * math.log2(share) for share in shares) >= _RANDOM


def _class(character: str) -> tuple[bool, bool]:
    return character.isdigit(), character.isupper()
