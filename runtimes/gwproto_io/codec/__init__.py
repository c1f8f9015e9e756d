"""The HTTP/1.1 codec: who takes heads apart, chosen by what is installed.

All of HTTP/1.1 that is a matter of rules has one implementation, whatever library is used: where a head ends and what
it may be made of (``heads``), how bodies are framed, whether a connection goes on. One thing is left for libraries,
and what they differ in there is speed: the fields of a head that is known to be well-formed.
"""

from gwproto_io.codec.h11_codec import H11Codec
from gwproto_io.codec.heads import Codec, HeadError
from gwproto_io.codec.plain_codec import PlainCodec

try:
    from gwproto_io.codec.httptools_codec import HttptoolsCodec
except ImportError:
    DEFAULT: Codec = PlainCodec(H11Codec())
else:
    DEFAULT = PlainCodec(HttptoolsCodec())

__all__ = ["DEFAULT", "Codec", "H11Codec", "HeadError", "PlainCodec"]
