"""Keys that a provider quotes in its errors, replaced where errors are kept."""

import re
from collections.abc import Iterable

from gwproto.journal.characters import ASCII

#: So much of a key is left, that what knows keys by their beginnings still does.
_SHOWN = re.compile(
    rb"(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|ghp|gho|ghu|ghs|github_pat|tgp|key)[-_]|AIza|.{0,3}", re.S
)
# As gwproto.wire.openai.errors knows them, letter by letter instead of as a whole.
_LOOKS_LIKE = re.compile(
    rb"(\b(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|ghp|gho|ghu|ghs|github_pat|tgp|key)[-_]|\bAIza|\bbearer )([\w.*-]{6,})"
    rb"|([?&]key=)([^&\s]+)",
    re.IGNORECASE,
)
_LONGEST = 256  # bytes of a key that is not known


class Mask:
    """A text in pieces, without ``secrets`` and, if ``looks``, without what looks like one."""

    __slots__ = ("_before", "_looks", "_secrets", "_size")

    def __init__(self, secrets: Iterable[bytes] = (), *, looks: bool = False) -> None:
        self._looks = looks
        self._secrets = tuple(secret for secret in secrets if len(secret) > 3)
        sizes = [*map(len, self._secrets), _LONGEST if looks else 1]
        self._size = max(sizes) - 1
        self._before = b""  # as much as may be the beginning of a secret

    def __call__(self, data: bytes) -> bytes:
        if not self._size:
            return data
        before = len(self._before)
        seen = self._before + data
        out = bytearray(seen)
        if self._looks:
            for found in _LOOKS_LIKE.finditer(seen):
                _replace(out, *found.span(2 if found[2] else 4))
        for secret in self._secrets:
            shown = _shown(secret)
            at = seen.find(secret)
            while at >= 0:
                _replace(out, at + shown, at + len(secret))
                at = seen.find(secret, at + 1)
            begun = _overlap(seen, secret)
            if begun > shown:  # what follows may complete it
                _replace(out, len(out) - begun + shown, len(out))
        self._before = seen[-self._size :]
        return bytes(out[before:])


def _replace(out: bytearray, start: int, end: int) -> None:
    out[start:end] = out[start:end].translate(ASCII)


def _shown(secret: bytes) -> int:
    found = _SHOWN.match(secret)
    return 0 if found is None else min(found.end(), len(secret) // 2)


def _overlap(text: bytes, secret: bytes) -> int:
    """How much of the end of ``text`` is the beginning of ``secret``, but not all of it."""
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
