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


class Mask:
    """A text in pieces, without ``secrets`` and, if ``looks``, without what looks like one."""

    __slots__ = ("_before", "_looks", "_secrets", "_size")

    def __init__(self, secrets: Iterable[bytes] = (), *, looks: bool = False) -> None:
        self._looks = looks
        self._secrets = tuple(secret for secret in secrets if len(secret) > 3)
        self._size = max(map(len, self._secrets), default=1) - 1
        self._before = b""  # as much as may be the beginning of a secret

    def __call__(self, data: bytes) -> bytes:
        masked = _LOOKS_LIKE.sub(_masked, data) if self._looks else data
        if not self._secrets:
            return masked
        seen = self._before + data
        out = bytearray(self._before + masked)
        for secret in self._secrets:
            shown = _shown(secret)
            at = seen.find(secret)
            while at >= 0:
                _replace(out, at + shown, at + len(secret))
                at = seen.find(secret, at + 1)
            begun = _overlap(seen, secret)
            if begun > shown:  # what follows may complete it
                _replace(out, len(out) - begun + shown, len(out))
        result = bytes(out[len(self._before) :])
        self._before = seen[len(seen) - self._size :] if len(seen) > self._size else seen
        return result


def _masked(found: re.Match[bytes]) -> bytes:
    return (found[1] or found[3]) + (found[2] or found[4]).translate(ASCII)


def _replace(out: bytearray, start: int, end: int) -> None:
    out[start:end] = out[start:end].translate(ASCII)


def _shown(secret: bytes) -> int:
    found = _SHOWN.match(secret)
    return 0 if found is None else min(found.end(), len(secret) // 2)


def _overlap(text: bytes, secret: bytes) -> int:
    """How much of the end of ``text`` is the beginning of ``secret``, but not all of it."""
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
