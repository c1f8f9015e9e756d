"""The limits of one gateway: of client keys, of projects, and of addresses that have shown no key."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gwproto.config import LimitSettings, Rates
from gwproto.policy.ratelimit import DAY, Limiter
from gwproto.policy.values import ClientKey, LimitsState

#: Keys are configured, so none of them needs to be forgotten.
_ANY_NUMBER = 1 << 30


class Limits:
    """``keys`` by label, ``projects`` by project_id, ``addresses`` as :mod:`gwproto.policy.address` names them."""

    __slots__ = ("_epoch", "addresses", "keys", "projects")

    def __init__(self, settings: LimitSettings, keys: Sequence[ClientKey], epoch: float) -> None:
        self._epoch = epoch
        self.keys = Limiter("key", settings, epoch=epoch, own=_own(settings, keys), capacity=_ANY_NUMBER)
        self.projects = Limiter("project", settings.project, epoch=epoch)
        self.addresses = Limiter("address", _public(settings), epoch=epoch)

    def reconfigure(self, settings: LimitSettings, keys: Sequence[ClientKey], now: float) -> None:
        """Other limits from now on. What was used stays used, what is reserved stays reserved."""
        self.keys.reconfigure(settings, _own(settings, keys), now)
        self.projects.reconfigure(settings.project, None, now)
        self.addresses.reconfigure(_public(settings), None, now)

    def snapshot(self, now: float) -> LimitsState:
        """What was used today, without requests in flight. Only what is limited is counted."""
        return LimitsState(self._day(now), self.keys.usage(now), self.projects.usage(now))

    def restore(self, state: LimitsState, now: float) -> None:
        """Go on from a snapshot; one of another day says nothing. Twice is as good as once."""
        if state.day == self._day(now):
            self.keys.restore(state.keys, now)
            self.projects.restore(state.projects, now)

    def _day(self, now: float) -> int:
        return int((now + self._epoch) // DAY)


def _public(settings: LimitSettings) -> Rates:
    return Rates(requests_per_second=settings.public_requests_per_second, burst=settings.public_burst)


def _own(settings: LimitSettings, keys: Sequence[ClientKey]) -> Mapping[str, Rates]:
    """The rates of the keys that have their own."""
    common = Rates(**{name: getattr(settings, name) for name in Rates.__struct_fields__})
    own: dict[str, Rates] = {}
    for key in keys:
        if key.limits is not None and key.label not in own:
            said = {name: getattr(key.limits, name) for name in Rates.__struct_fields__}
            own[key.label] = replace(
                common, **{name: value for name, value in said.items() if value is not None}
            )
    return own
