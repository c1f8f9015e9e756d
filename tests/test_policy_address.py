"""Whose request it is: peers, trusted proxies, and what clients write into headers."""

import pytest

from gwproto import RequestHead
from gwproto.policy.address import Addresses

PROXIES = Addresses(["10.0.0.0/8", "192.0.2.1", "fd00::/8"])


def asked(client: str, *headers: tuple[str, str]) -> RequestHead:
    fields = tuple([(name.encode(), value.encode("latin-1")) for name, value in headers])
    return RequestHead("GET", "/", fields, client=client)


def forwarded_for(*chains: str, client: str = "10.0.0.1") -> str:
    return PROXIES.of(asked(client, *[("x-forwarded-for", chain) for chain in chains]))


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("", ""),
        ("testclient", "testclient"),
        ("not:an:address", "not:an:address"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002/64"),
        ("2001:db8:1:2::", "20010db800010002/64"),
        ("2001:db8:1:3::", "20010db800010003/64"),
        ("fe80::1%eth0", "fe80000000000000/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_a_peer_is_counted_by_itself(peer: str, counted: str) -> None:
    for addresses in (Addresses([]), PROXIES):
        assert addresses.of(asked(peer)) == counted
        assert addresses.of(asked(peer, ("x-forwarded-for", "203.0.113.9"))) == counted, (
            "anybody can write that"
        )


@pytest.mark.parametrize("proxy", ["10.0.0.1", "192.0.2.1", "::ffff:10.9.9.9", "fd00::1"])
def test_a_trusted_peer_is_believed(proxy: str) -> None:
    assert forwarded_for("203.0.113.9", client=proxy) == "203.0.113.9"


@pytest.mark.parametrize(
    ("chain", "counted"),
    [
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the left one is the client's own invention
        ("1.1.1.1, 203.0.113.9, 10.2.3.4,192.0.2.1", "203.0.113.9"),
        ("10.7.7.7, 10.2.3.4", "10.7.7.7"),  # a client inside
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "20010db800000000/64"),
        ("[2001:db8::1]", "20010db800000000/64"),
        ("2001:db8::1", "20010db800000000/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, unknown", "10.0.0.1"),
        ("203.0.113.9, unknown, 10.2.3.4", "10.2.3.4"),
        ("", "10.0.0.1"),
        (",,,", "10.0.0.1"),
        ("1" * 5000, "10.0.0.1"),
        ("203.0.113.9" + ", 10.0.0.2" * 40, "10.0.0.2"),  # nobody has so many proxies
        ("\xff", "10.0.0.1"),
    ],
)
def test_the_hop_furthest_to_the_right_that_is_not_trusted_counts(chain: str, counted: str) -> None:
    assert forwarded_for(chain) == counted


def test_several_headers_are_one_list() -> None:
    assert forwarded_for("1.1.1.1", "203.0.113.9", "10.1.1.1") == "203.0.113.9"


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('proto=https;For = "203.0.113.9:80";by=10.0.0.1', "203.0.113.9"),
        ('for=1.1.1.1, for="[2001:db8::1]:80", for=10.3.3.3', "20010db800000000/64"),
        ("for=_hidden", "10.0.0.1"),
        ("proto=http", "10.0.0.1"),
        ("xfor=203.0.113.9", "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_too(value: str, counted: str) -> None:
    assert PROXIES.of(asked("10.0.0.1", ("forwarded", value))) == counted


def test_of_two_headers_that_differ_one_is_the_clients() -> None:
    def both(plain: str, standard: str) -> str:
        return PROXIES.of(asked("10.0.0.1", ("x-forwarded-for", plain), ("forwarded", standard)))

    assert both("203.0.113.9", "for=203.0.113.9") == "203.0.113.9"
    assert both("203.0.113.9", "for=1.1.1.1") == "10.0.0.1"
    assert both("203.0.113.9", "for=unknown") == "10.0.0.1"


def test_an_untrusted_peers_headers_are_not_even_read() -> None:
    class Unread(tuple):  # type: ignore[type-arg]  # stands for any headers
        def __iter__(self) -> None:  # type: ignore[override]  # the point is that it fails
            raise AssertionError

    head = RequestHead("GET", "/", Unread(), client="203.0.113.9")
    assert PROXIES.of(head) == "203.0.113.9"


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="host bits"):
        Addresses(["10.0.0.1/8"])
