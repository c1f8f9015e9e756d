"""h11: the reference, and what there is without the extra ``fast``.

Its readers take a head apart without its connection, whose states and framing are kept elsewhere anyway and would be
half of what a head costs. They are private, and therefore pinned to one minor version.
"""

import h11
from h11._readers import maybe_read_from_IDLE_client as read_request
from h11._readers import maybe_read_from_SEND_RESPONSE_server as read_response
from h11._receivebuffer import ReceiveBuffer

from gwproto import Headers
from gwproto_io.codec.heads import HeadError


class _Head(ReceiveBuffer):
    """A head whose end has been found: h11 has nothing to search for, and nothing to keep."""

    def __init__(self, head: bytes) -> None:
        self._lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")

    def maybe_extract_lines(self) -> list[bytes]:  # type: ignore[override]  # h11's readers only read them
        return self._lines


class H11Codec:
    """See :class:`gwproto_io.codec.heads.Codec`."""

    __slots__ = ()
    name = "h11"

    def request_fields(self, head: bytes) -> Headers:
        try:
            request = read_request(_Head(head))
        except h11.LocalProtocolError as error:
            raise HeadError(error.error_status_hint) from error
        assert request is not None  # the head is whole
        return _lowered(request)

    def response_fields(self, head: bytes) -> Headers:
        try:
            response = read_response(_Head(head))
        except h11.LocalProtocolError as error:
            raise HeadError(error.error_status_hint) from error
        assert response is not None
        return _lowered(response)


def _lowered(message: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    """The fields with lower-case names, in a fifth of the time that iterating over h11's takes."""
    return tuple([(name.lower(), value) for name, value in message.headers.raw_items()])
