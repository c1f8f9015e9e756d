"""Every HTTP/1.1 codec there is, for tests that hold for each."""

from functools import partial
from typing import Any

import pytest

from gwproto_io.codec import Codec, H11Codec, PlainCodec

H11: Codec = H11Codec()
SPLIT: Codec = PlainCodec(H11)
FAST: Codec | None
try:
    from gwproto_io.codec.httptools_codec import HttptoolsCodec
except ImportError:
    FAST = None
else:
    FAST = HttptoolsCodec()

#: All but the reference.
OTHERS: list[Codec] = [SPLIT] if FAST is None else [SPLIT, FAST]

needs_httptools = pytest.mark.skipif(FAST is None, reason="httptools is not installed")
CODECS = [
    pytest.param(H11, id="h11"),
    pytest.param(SPLIT, id="plain"),
    pytest.param(FAST, id="httptools", marks=needs_httptools),
]


def with_each_codec(module: dict[str, Any], *names: str) -> Any:
    """A fixture that runs every test of ``module``, given by its globals, once with each codec: what it calls by these
    names is given the codec."""

    @pytest.fixture(autouse=True, params=CODECS)
    def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in names:
            monkeypatch.setitem(module, name, partial(module[name], codec=request.param))

    return codec
