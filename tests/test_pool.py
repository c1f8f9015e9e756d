"""The pool's bookkeeping: nothing is lost, nothing is lent twice, nothing expired is lent."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gwproto import Origin
from gwproto_io.pool import Leases

A = Origin("http", "a", 80)
B = Origin("https", "a", 443)


def test_the_one_used_last_is_lent_first() -> None:
    leases: Leases[str] = Leases()
    assert leases.acquire(A, 0.0) is None
    assert leases.acquire(A, 0.0) is None
    assert leases.leased == 2
    assert leases.release(A, "one", 1.0) == []
    assert leases.release(A, "two", 2.0) == []
    assert (leases.leased, leases.idle) == (0, 2)
    assert leases.acquire(B, 3.0) is None
    assert leases.acquire(A, 3.0) == "two"
    assert leases.acquire(A, 3.0, fresh=True) is None
    assert leases.acquire(A, 3.0) == "one"
    assert leases.acquire(A, 3.0) is None


def test_idle_ones_expire() -> None:
    leases: Leases[str] = Leases(idle_timeout=30.0)
    for _ in range(2):
        assert leases.acquire(A, 0.0) is None
    for name, now in (("one", 0.0), ("two", 10.0)):
        assert leases.release(A, name, now) == []
    assert leases.expire(29.9) == []
    assert leases.acquire(B, 0.0) is None
    assert leases.release(B, "other", 0.0) == []
    assert leases.expire(30.0) == ["one", "other"]
    assert leases.acquire(A, 40.0) is None
    assert leases.release(A, "three", 40.0) == ["two"]
    assert leases.clear() == ["three"]
    assert leases.idle == 0


def test_those_of_a_provider_nobody_asks_any_more_expire_too() -> None:
    leases: Leases[str] = Leases(idle_timeout=30.0)
    for origin in (A, B):
        assert leases.acquire(origin, 0.0) is None
    assert leases.release(A, "one", 0.0) == []
    assert leases.release(B, "other", 30.0) == ["one"]
    assert leases.clear() == ["other"]


def test_only_so_many_are_kept() -> None:
    leases: Leases[int] = Leases(max_idle=2)
    for _ in range(3):
        leases.acquire(A, 0.0)
    assert [leases.release(A, number, 0.0) for number in range(3)] == [[], [], [0]]


class PoolMachine(RuleBasedStateMachine):
    """Against a model that knows every connection ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: Leases[int] = Leases(idle_timeout=10.0, max_idle=3)
        self.now = 1000.0
        self.made = 0
        self.lent: dict[int, Origin] = {}
        self.kept: dict[int, tuple[Origin, float]] = {}
        self.closed: set[int] = set()

    def close(self, connections: list[int]) -> None:
        for connection in connections:
            del self.kept[connection]
            assert connection not in self.closed
            self.closed.add(connection)

    @rule(origin=st.sampled_from([A, B]), fresh=st.booleans())
    def acquire(self, origin: Origin, fresh: bool) -> None:
        live = {c: at for c, (o, at) in self.kept.items() if o == origin and at + 10.0 > self.now}
        connection = self.leases.acquire(origin, self.now, fresh=fresh)
        if fresh or not live:
            assert connection is None
            self.made += 1
            connection = self.made
        else:
            assert connection is not None
            assert live[connection] == max(live.values())
            del self.kept[connection]
        self.lent[connection] = origin

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.lent)))
        origin = self.lent.pop(connection)
        self.kept[connection] = (origin, self.now)
        self.close(self.leases.release(origin, connection, self.now))
        assert all(at + 10.0 > self.now for _, at in self.kept.values())

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.lent)))
        del self.lent[connection]
        self.closed.add(connection)
        self.leases.discard()

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.close(self.leases.expire(self.now))
        assert all(at + 10.0 > self.now for _, at in self.kept.values())

    @invariant()
    def counts_agree(self) -> None:
        assert self.leases.leased == len(self.lent)
        assert self.leases.idle == len(self.kept)
        assert len(self.lent) + len(self.kept) + len(self.closed) == self.made
        for origin in (A, B):
            assert sum(o == origin for o, _ in self.kept.values()) <= 3


PoolMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=60)
test_pool_machine = PoolMachine.TestCase
