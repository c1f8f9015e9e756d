"""Bytes that nearly are HTTP messages, and the pieces they may come in."""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def every_split(data: bytes) -> Iterator[list[bytes]]:
    """Two pieces, cut anywhere, and single bytes."""
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]
    yield byte_by_byte(data)


def pieces_of() -> st.SearchStrategy[list[int]]:
    """Sizes of the first pieces."""
    return st.lists(st.integers(1, 40), max_size=12)


def altered(messages: Sequence[bytes], vocabulary: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One or two of ``messages`` with a few words of ``vocabulary`` put in, or in the place of some bytes."""
    edit = st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from([b"", *vocabulary]))

    def edited(chosen: list[bytes], edits: list[tuple[int, int, bytes]]) -> bytes:
        data = b"".join(chosen)
        for at, length, word in edits:
            at %= len(data) + 1
            data = data[:at] + word + data[at + length :]
        return data

    return st.builds(
        edited, st.lists(st.sampled_from(messages), min_size=1, max_size=2), st.lists(edit, max_size=3)
    )
