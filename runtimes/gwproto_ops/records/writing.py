"""What the writer thread does to the tables: records with what they add up to, roll-ups, and tidying up."""

import time
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec

from gwproto import Outcome
from gwproto.values import Candidate
from gwproto_ops.records.database import Database, Row
from gwproto_ops.records.figures import DAY, HOUR, Sums, add, encode, of_attempts, of_requests
from gwproto_ops.records.record import CHAT, Finished, named, plain

#: Names of projects come from clients. A day has so many in its roll-ups; all others are one more, of this name.
PROJECTS = 500
OTHERS = "(others)"
#: Days that roll-ups by the hour, roll-ups by the day, and explanations are kept.
HOURS_KEPT = 8
DAYS_KEPT = 400
DECISIONS_KEPT = 3
#: Records that are deleted in one step.
STEP = 2000
#: Sums wait for so many of others, or so many seconds, before they are rolled up: a row that is updated once for a
#: hundred batches costs a hundredth. Pages add up what waits.
WAITING_SUMS = 2000
WAITING_SECONDS = 30.0

#: Records that are made at a time: the interpreter would let the event loop wait for 5 ms.
PIECE = 250

_RECORDS = """gwproto_records
    (at, request_id, key, project_id, provider, model, ending, status, decision, failed, line)"""
_DECIDE = """INSERT INTO gwproto_decisions (id, at, considered) VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET at = excluded.at"""
_ADD = """INSERT INTO gwproto_rollups (span, slice, at, provider, model, project_id, figures)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (span, slice, at, provider, model, project_id)
    DO UPDATE SET figures = gwproto_merged(gwproto_rollups.figures, excluded.figures)"""
_TAKE = """DELETE FROM gwproto_pending WHERE id IN (SELECT id FROM gwproto_pending ORDER BY id LIMIT 200)
    RETURNING sums"""
_OLD = """DELETE FROM gwproto_records WHERE id IN (
    SELECT id FROM (SELECT id, at FROM gwproto_records ORDER BY id LIMIT ?) AS oldest WHERE at < ?)"""

#: Slice, hour, provider, model, project. Of a batch, a slice is "cell" or "attempt".
Key = tuple[str, int, str, str, str]
Entry = tuple[str, int, str, str, str, Sums]
read_pending = msgspec.json.Decoder(list[Entry]).decode

_json = msgspec.json.Encoder().encode


class Writer:
    """One connection's. After an exception it is to be thrown away: it may remember what was not written."""

    def __init__(self, database: Database, retention_days: int) -> None:
        self._database = database
        self._retention = retention_days
        #: By a decision's object's id: it, the number of its explanation, and until when that is kept anyway.
        self._ids: dict[int, tuple[tuple[Candidate, ...], int, float]] = {}
        self._decided: dict[int, float] = {}  # decisions that are there, and since when
        self._projects: dict[int, set[str]] = {}  # by day
        #: Sums that wait, as far as this process knows; another may have left some.
        self.waiting = WAITING_SUMS

    @property
    def database(self) -> Database:
        return self._database

    def write(self, finished: Sequence[Finished]) -> None:
        """Keep all of them, or none: then it raises."""
        new: list[Row] = []
        rows: list[Row] = []
        for start in range(0, len(finished), PIECE):
            rows += self._rows(finished[start : start + PIECE], new)
            time.sleep(0)  # let the event loop's thread run
        entries = self._entries([outcome for outcome, _ in finished if outcome.endpoint == CHAT])
        with self._database.transaction():
            if new:
                self._database.run_many(_DECIDE, sorted(new))  # in one order, as sums are
            self._database.insert(_RECORDS, rows)
            if entries:
                self._database.run(
                    "INSERT INTO gwproto_pending (sums) VALUES (?)", (_json(entries).decode(),)
                )
        self.waiting += len(entries)

    def roll_up(self) -> None:
        """Add what waits to the roll-ups. What another process takes at the same time, this one does not."""
        while True:
            with self._database.transaction():
                taken = self._database.run(_TAKE)
                if taken:
                    sums = _rolled(entry for (text,) in taken for entry in read_pending(text))
                    self._database.run_many(_ADD, sums)
            if not taken:
                break
        self.waiting = 0

    def tidy(self, now: float) -> bool:
        """Delete a few of those that are too old at ``now`` (wall). True: there may be more."""
        run = self._database.run
        with self._database.transaction():
            ((before,),) = run("SELECT min(id) FROM gwproto_records")
            run(_OLD, (STEP, now - self._retention * DAY))
            ((after,),) = run("SELECT min(id) FROM gwproto_records")
            run("DELETE FROM gwproto_decisions WHERE at < ?", (int(now) - DECISIONS_KEPT * DAY,))
            for span, days in (("hour", HOURS_KEPT), ("day", DAYS_KEPT)):
                for slice in ("all", "attempt", "cell", "model", "project", "provider"):
                    run(
                        "DELETE FROM gwproto_rollups WHERE span = ? AND slice = ? AND at < ?",
                        (span, slice, int(now) - days * DAY),
                    )
        return bool(before != after)

    def _rows(self, finished: Sequence[Finished], new: list[Row]) -> list[Row]:
        rows: list[Row] = []
        for outcome, line in finished:
            decision = outcome.decision
            number, failed = None, ""
            if decision is not None:
                known = self._ids.get(id(decision.considered))
                if known is not None and outcome.at < known[2]:
                    number = known[1]
                else:
                    number = self._explained(decision.considered, outcome.at, new)
                if decision.failed:
                    failed = _json(decision.failed).decode()
            rows.append(
                (
                    (outcome.at * 1e3 + 0.5) // 1 / 1e3,  # as in the line
                    outcome.request_id,
                    named[outcome.key],
                    plain(outcome.project_id) if outcome.project_id else "",
                    named[outcome.provider],
                    named[outcome.model],
                    outcome.ending._value_,
                    outcome.status,
                    number,
                    failed,
                    line,
                )
            )
        return rows

    def _explained(self, considered: tuple[Candidate, ...], at: float, new: list[Row]) -> int:
        """The number under which an explanation is kept, and among ``new`` if it is.

        Many requests have the very same object. It is held here, so that no other has its id.
        """
        text = _json(considered)
        number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)
        if at >= self._decided.get(number, -HOUR) + HOUR:  # kept for as long as the latest that refers to it
            if len(self._decided) >= 4096:
                self._decided.clear()
            self._decided[number] = at
            new.append((number, int(at), zlib.compress(text, 1)))
        if len(self._ids) >= 64:
            self._ids.clear()
        self._ids[id(considered)] = (considered, number, self._decided[number] + HOUR)
        return number

    def _entries(self, outcomes: Sequence[Outcome]) -> list[Entry]:
        """What a batch adds up to."""
        found: list[Entry] = [
            ("cell", hour, named[provider], named[model], self._project(hour, plain(project)), sums)
            for (hour, provider, model, project), sums in of_requests(outcomes).items()
        ]
        for (hour, provider), sums in of_attempts(outcomes).items():
            found.append(("attempt", hour, named[provider], "", "", sums))
        return found

    def _project(self, hour: int, project: str) -> str:
        day = hour - hour % DAY
        known = self._projects.get(day)
        if known is None:
            if len(self._projects) >= 8:
                self._projects.pop(min(self._projects))
            rows = self._database.run(
                "SELECT project_id FROM gwproto_rollups WHERE span = 'day' AND slice = 'project' AND at = ?",
                (day,),
            )
            known = self._projects[day] = {name for (name,) in rows} | {"", OTHERS}
        if project not in known:
            if len(known) >= PROJECTS + 2:
                return OTHERS
            known.add(project)
        return project


def summed(entries: Iterable[Entry]) -> dict[Key, Sums]:
    """Entries of many batches, those of one key added."""
    found: dict[Key, Sums] = {}
    for slice, hour, provider, model, project, sums in entries:
        key = (slice, hour, provider, model, project)
        if key in found:
            add(found[key], sums)
        else:
            found[key] = sums
    return found


def sliced(entries: Iterable[Entry]) -> dict[Key, Sums]:
    """Entries, and their sums over all, by provider, by model and by project: a page without a filter would have to add
    up thousands of cells."""
    found = summed(entries)
    for (slice, at, provider, model, project), sums in list(found.items()):
        if slice == "cell":
            for key in (
                ("all", at, "", "", ""),
                ("provider", at, provider, "", ""),
                ("model", at, "", model, ""),
                ("project", at, "", "", project),
            ):
                into = found.get(key)
                if into is None:
                    found[key] = dict(sums)
                else:
                    add(into, sums)
    return found


def _rolled(entries: Iterable[Entry]) -> list[Row]:
    """Rows to add to the roll-ups, in one order for all processes, or they would wait for each other in circles."""
    found: list[Row] = []
    for (slice, hour, *names), sums in sliced(entries).items():
        figures = encode(sums).decode()
        found.append(("hour", slice, hour, *names, figures))
        found.append(("day", slice, hour - hour % DAY, *names, figures))
    return sorted(found)
