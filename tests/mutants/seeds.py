"""The breaks, as data. ``tests/test_mutants.py`` holds that each still fits the source."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` occurs once in ``path`` (inside the package) and becomes ``new``."""

    path: str
    old: str
    new: str
    breaks: str


_EXCHANGE = "exchange/exchange.py"
_ATTEMPTS = "exchange/attempts.py"
_ROUTER = "routing/router.py"
_HEALTH = "routing/health.py"
_LINEUP = "routing/lineup.py"
_QUOTA = "routing/quota.py"
_FLIGHT = "exchange/flight.py"
_SHARING = "exchange/sharing.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        _EXCHANGE,
        "        attempt = self._attempts.live.get(event.attempt)\n        if attempt is None:\n            return []\n"
        "        if self._linger_at",
        "        attempt = next(iter(self._attempts.live.values()), None)\n"
        "        if attempt is None:\n            return []\n        if self._linger_at",
        "late events of a closed attempt count",
    ),
    Mutant(
        _EXCHANGE,
        "        if self._history.served is not None:\n            return [*commands, *self._answer(failure,",
        "        if False:\n            return [*commands, *self._answer(failure,",
        "after content another attempt may follow",
    ),
    Mutant(
        _ATTEMPTS,
        "        return [CloseUpstream(attempt.number)] if close else []\n",
        "        return []\n",
        "failed attempts stay open",
    ),
    Mutant(
        _ATTEMPTS,
        "            commands.append(CloseUpstream(attempt.number))\n            if not judged",
        "            if not judged",
        "a client that leaves does not close its upstream",
    ),
    Mutant(
        _ATTEMPTS,
        "                self._shared.router.release(attempt.ticket, now)\n",
        "                pass\n",
        "a client that leaves leaks its ticket",
    ),
    Mutant(
        _ATTEMPTS,
        "                self._shared.router.release(attempt.ticket, now)\n",
        "                self._shared.router.failure(attempt.ticket, attempt.timed_out(), now)\n",
        "a client that leaves counts against the provider",
    ),
    Mutant(
        _EXCHANGE,
        "        self._shared.in_flight -= 1\n",
        "        self._shared.in_flight -= ending is not Ending.CLIENT_CLOSED\n",
        "requests whose client left stay in flight",
    ),
    Mutant(
        _EXCHANGE,
        "        if why is LossReason.STALE and not attempt.request.fresh:\n",
        "        if why is LossReason.STALE:\n",
        "dead connections are retried without end",
    ),
    Mutant(
        _EXCHANGE,
        "        self._hedge_at = self._total_at = math.inf  # the attempt's own clocks run on\n",
        "        self._hedge_at = math.inf\n",
        "the total deadline cuts streams that are under way",
    ),
    Mutant(
        _EXCHANGE,
        "        self._total_at = self.began_at + (",
        "        self._total_at = now + (",
        "the time of the upload does not count",
    ),
    Mutant(
        _EXCHANGE,
        "                self._drain_at = min(self._drain_at, now + self._settings.server.drain_timeout)\n",
        "                pass\n",
        "draining has no end",
    ),
    Mutant(
        _EXCHANGE,
        "        self._body_at = math.inf\n        understood",
        "        understood",
        "the upload's deadline runs on",
    ),
    Mutant(
        _EXCHANGE,
        "            if self._heartbeat_at < math.inf:\n",
        "            if False:\n",
        "heartbeats in the middle of a flowing stream",
    ),
    Mutant(
        _EXCHANGE,
        "        if body.progress:\n            attempt.progressed(now)\n",
        "        attempt.progressed(now)\n",
        "comments keep a stalled stream alive",
    ),
    Mutant(
        _EXCHANGE,
        "        if self._linger_at < math.inf:\n            return self._release(now, _COMPLETED)\n"
        "        if self._response.status:\n",
        "        if self._response.status:\n",
        "an abort after the end",
    ),
    Mutant(
        "exchange/base.py",
        "    commands.sort(key=lambda command: _RANK.get(type(command), 1))\n",
        "",
        "a close after what the client sees",
    ),
    Mutant(
        "exchange/gears.py",
        "        if not self.content:\n            if not self._normaliser.content:\n"
        '                self._held += out\n                return b""\n',
        "        if not self.content:\n",
        "the preamble commits",
    ),
    Mutant(
        "exchange/gears.py",
        "        out.append(DONE)\n        self.usage = normaliser.usage\n        self.complete = True\n",
        "        out.append(DONE)\n        out.append(DONE)\n        self.usage = normaliser.usage\n"
        "        self.complete = True\n",
        "two end markers",
    ),
    Mutant(
        "exchange/gears.py",
        "        if self.finished:\n            self._complete(out)\n        else:\n            self._truncated()\n",
        "        self._complete(out)\n",
        "a stream that breaks off ends as if it were whole",
    ),
    Mutant(
        "exchange/attempt.py",
        "        self._due(self.opened_at + self._timeouts.first_content if self._asked.stream else math.inf)\n",
        "        self._due(now + self._timeouts.first_content if self._asked.stream else math.inf)\n",
        "a response head starts the clock for content anew",
    ),
    Mutant(
        "exchange/attempt.py",
        "        self.total_at = self.started_at + self._timeouts.stream_total\n",
        "        self.total_at = math.inf\n",
        "streams without end",
    ),
    Mutant(
        "exchange/response.py",
        "        if self.status:\n            return []\n        self.status = 200\n",
        "        self.status = 200\n",
        "a second head after a heartbeat",
    ),
    Mutant(
        "exchange/course.py",
        "            failure.reaction.switch\n            and self._history.attempts < self._max_attempts\n",
        "            failure.reaction.switch\n            and self._history.attempts <= self._max_attempts\n",
        "one attempt too many",
    ),
    Mutant(
        "exchange/course.py",
        "            failure.reaction.switch\n            and",
        "            True\n            and",
        "the client's own mistakes are tried everywhere",
    ),
    Mutant(
        "exchange/course.py",
        "        if history.attempts and not budget.allows(now):\n",
        "        if False:\n",
        "retries without a budget",
    ),
    Mutant(
        "exchange/course.py",
        "target.refuses, self.request.fields, failure)\n            and self._shared.budget.take(now)\n",
        "target.refuses, self.request.fields, failure)\n",
        "tries without a refused field, and without a budget",
    ),
    Mutant(
        "exchange/course.py",
        "            and self._history.served is None\n            and self._history.attempts < self._max_attempts\n",
        "            and self._history.served is None\n",
        "tries without a refused field beyond the last",
    ),
    Mutant(
        _ATTEMPTS,
        "                commands.append(CloseUpstream(attempt.number))\n                self._shared.router.overtaken",
        "                self._shared.router.overtaken",
        "who lost a race stays open",
    ),
    Mutant(
        _ATTEMPTS,
        "                self._shared.router.overtaken(attempt.ticket, now)\n",
        "                self._shared.router.failure(attempt.ticket, attempt.timed_out(), now)\n",
        "who lost a race is counted as failed",
    ),
    Mutant(
        _EXCHANGE,
        "        self._hedge_at = self._total_at = math.inf  #",
        "        self._total_at = math.inf  #",
        "a hedge after the first content",
    ),
    Mutant(
        _EXCHANGE,
        "        if self._attempts.live:\n            return commands  #",
        "        if False:\n            return commands  #",
        "a failure in a race starts a third attempt",
    ),
    Mutant(
        "exchange/course.py",
        " or not hedging.affordable:",
        ":",
        "hedges without a budget",
    ),
    Mutant(
        "exchange/course.py",
        "        if self._history.attempts >= self._max_attempts or not hedging",
        "        if not hedging",
        "a hedge is no attempt",
    ),
    Mutant(
        "exchange/course.py",
        "        if history.attempts and isinstance(choice, Ticket):\n",
        "        if history.attempts:\n",
        "a retry that finds no target costs budget",
    ),
    Mutant(
        "routing/spare.py",
        "        and all(circuit.state in _WELL for circuit in state.circuits)\n",
        "",
        "a hedge is a probe",
    ),
    Mutant(
        "routing/spare.py",
        "        and state.headroom(now) >= MIN_HEADROOM\n",
        "",
        "a hedge takes what is scarce",
    ),
    Mutant(
        _FLIGHT,
        "        self.followers[follower] += len(pieces)\n",
        "",
        "a follower gets bytes twice",
    ),
    Mutant(
        _FLIGHT,
        "        if not self.followers:\n            self.leader.notify(now)\n",
        "",
        "an answer that nobody waits for is read to its end",
    ),
    Mutant(
        _FLIGHT,
        '"tools" in request.fields or ',
        "",
        "calls of tools are shared",
    ),
    Mutant(
        _SHARING,
        "        if self._content_at is None:\n            self._follows = None\n",
        "        if True:\n            self._follows = None\n",
        "a follower with content begins again",
    ),
    Mutant(
        _SHARING,
        "        key = None if self._response.status else key_of",
        "        key = key_of",
        "two heads for who begins again",
    ),
    Mutant(
        "policy/refusals.py",
        " or field in VITAL or ",
        " or ",
        "a refused field takes the meaning along",
    ),
    Mutant(
        "policy/refusals.py",
        "        self._fields[target] = known | {field}\n",
        "        self._fields[target] = frozenset({field})\n",
        "only the last refusal is remembered",
    ),
    Mutant(
        "exchange/gears.py",
        "            if text and not chunk.remembered and settled(self._decode):\n",
        "            if text and settled(self._decode):\n",
        "what a decoder must see is spliced",
    ),
    Mutant(
        "exchange/gears.py",
        "            if text and not chunk.remembered and settled(self._decode):\n",
        "            if text and not chunk.remembered:\n",
        "thinking inside the text is spliced",
    ),
    Mutant(
        "exchange/course.py",
        "            self._again = True\n            history.tried.clear()\n",
        "            history.tried.clear()\n",
        "another round without the right to one",
    ),
    Mutant(
        "exchange/history.py",
        "        self.tried.add(attempt.ticket.target.backend)\n",
        "",
        "the same target is tried at once again",
    ),
    Mutant(
        "policy/retry.py",
        "        return len(self._retries) + 1 <= self._ratio",
        "        return len(self._retries) <= self._ratio",
        "one retry over the budget",
    ),
    Mutant(
        "policy/retry.py",
        "        for instants in (self._requests, self._retries):\n",
        "        for instants in (self._retries,):\n",
        "requests count in the budget for ever",
    ),
    Mutant(
        "policy/retry.py",
        "BACKOFF_BASE * 2.0 ** min(attempt, 16)",
        "BACKOFF_BASE * 2.0 ** attempt",
        "back-off overflows",
    ),
    Mutant(
        _ROUTER,
        "        ticket.probe = state.begin(ticket, now)\n",
        "        state.begin(ticket, now)\n",
        "probes that do not know they are",
    ),
    Mutant(
        _ROUTER,
        "        if panic:\n            state.panicking = True\n",
        "",
        "panic mode lets everybody through",
    ),
    Mutant(
        _ROUTER,
        "            ticket.plan.spent |= {ticket.target.backend}\n",
        "            pass\n",
        "a target that refused for good is asked again",
    ),
    Mutant(
        _ROUTER,
        "        if ticket.released:\n            raise LocalProtocolError("
        '"this ticket has been given back before")\n',
        "",
        "tickets may be given back twice",
    ),
    Mutant(
        _ROUTER,
        "        fronts = [front for front in fronts if front.rank != FALLBACK] or fronts\n",
        "",
        "fallbacks serve beside everybody else",
    ),
    Mutant(
        _ROUTER,
        "        fronts = [front for front in fronts if front.group.backends.isdisjoint(excluded)] or fronts\n",
        "",
        "a failover may stay with the provider that failed",
    ),
    Mutant(
        _ROUTER,
        "            pause = min(max(MIN_RETRY_AFTER, hint), limit)\n",
        "            pause = min(MIN_RETRY_AFTER, limit)\n",
        "a provider's hint is ignored",
    ),
    Mutant(
        _HEALTH,
        "        return self.state is _HALF_OPEN and self.holder is None\n",
        "        return self.state is _HALF_OPEN\n",
        "a herd of probes",
    ),
    Mutant(
        _HEALTH,
        "        if self.state is _COOLDOWN and now + pause <= self.until:\n            return False\n",
        "",
        "a cooldown gets shorter",
    ),
    Mutant(
        _HEALTH,
        "        if self.state is _COOLDOWN and now >= self.until:\n",
        "        if self.state is _COOLDOWN:\n",
        "cooldowns end when somebody looks",
    ),
    Mutant(
        _HEALTH,
        "        if self.holder is probe:\n            self.holder = None\n\n    def content",
        "        pass\n\n    def content",
        "a probe without a verdict blocks its target for ever",
    ),
    Mutant(
        _HEALTH,
        "FAILURES_IN_A_ROW = 3\n",
        "FAILURES_IN_A_ROW = 4\n",
        "one failure more before a cooldown",
    ),
    Mutant(
        "routing/state.py",
        "        self.in_flight -= 1\n        self.key.in_flight -= 1\n",
        "        self.in_flight -= 1\n",
        "slots of a key leak",
    ),
    Mutant(
        "routing/rotation.py",
        "        credit[chosen] = max(most - total, -2.0 * total)\n",
        "        credit[chosen] = most\n",
        "nobody else gets a turn",
    ),
    Mutant(
        _LINEUP,
        "            if seat.target.backend in tried:\n                continue\n",
        "",
        "failovers return to who failed",
    ),
    Mutant(
        _QUOTA,
        "            if until > now:\n                per =",
        "            if False:\n                per =",
        "what headers tell of keeps nobody away",
    ),
    Mutant(
        _QUOTA,
        "        reset = MINUTE if reset is None else min(reset, DAY)\n",
        "        reset = MINUTE\n",
        "a limit's reset is ignored",
    ),
    Mutant(
        _QUOTA,
        "        if now >= self._ends_at:\n",
        "        if self._ends_at < 0.0:\n",
        "days never end",
    ),
    Mutant(
        _QUOTA,
        "        wall = self._epoch + 3600.0 * self.offset\n",
        "        wall = self._epoch\n",
        "days begin where the gateway is, not where the provider is",
    ),
    Mutant(
        _QUOTA,
        "        self.days.tokens += tokens\n",
        "",
        "tokens do not count",
    ),
    Mutant(
        _QUOTA,
        "        self._used = self.used(now) + amount\n",
        "        self._used = self._used + amount\n",
        "what was used never flows off",
    ),
    Mutant(
        _QUOTA,
        "                learned.take()\n",
        "                pass\n",
        "requests do not count against what headers told of",
    ),
    Mutant(
        _QUOTA,
        "        if elapsed < state.day_left:\n",
        "        if True:\n",
        "yesterday's use is restored today",
    ),
    Mutant(
        _LINEUP,
        "            names = [name for name in names if name not in slow]\n",
        "            pass\n",
        "a slow outlier takes its turns",
    ),
    Mutant(
        _LINEUP,
        "            if now - trial.at >= trial.interval:\n",
        "            if False:\n",
        "a slow outlier is never tried again",
    ),
    Mutant(
        _LINEUP,
        "            self.trials[slow].at = now\n",
        "",
        "a slow outlier that is tried gets every request",
    ),
    Mutant(
        _LINEUP,
        "for one, other in delays.items() if one != name]\n                limit",
        "for one, other in delays.items()]\n                limit",
        "a slow outlier is compared with itself, too",
    ),
    Mutant(
        _LINEUP,
        " for front in fronts if front.known >= SLOW_VOLUME}",
        " for front in fronts if front.known}",
        "one slow answer makes an outlier",
    ),
    Mutant(
        _LINEUP,
        "            quick = delay <= self._lineup.slow[provider]\n",
        "            quick = True\n",
        "a slow outlier is tried ever more often",
    ),
    Mutant(
        _LINEUP,
        "    for name in lineup.names:\n        front = lineup.fronts[name]\n        if target",
        "    for name in lineup.fronts:\n        front = lineup.fronts[name]\n        if target",
        "affinity holds on to who scores worse",
    ),
    Mutant(
        _ROUTER,
        "            shape.turns.turn(lineup.names, lineup.weights, (front.group.name,))\n",
        "",
        "turns by affinity are not counted",
    ),
    Mutant(
        "routing/affinity.py",
        "        if len(targets) >= MAX_GROUPS:\n",
        "        if not targets:\n",
        "the memory of affinity has no bound",
    ),
    Mutant(
        _HEALTH,
        "        until = now + value.left - elapsed\n",
        "        until = now + value.left\n",
        "cooldowns do not age while the process is down",
    ),
    Mutant(
        _HEALTH,
        "        if self.state is _COOLDOWN and until < self.until:\n            return\n",
        "",
        "restoring makes a cooldown shorter",
    ),
    Mutant(
        "routing/score.py",
        "        self._at = now - elapsed\n",
        "        self._at = now\n",
        "evidence does not age while the process is down",
    ),
    Mutant(
        "routing/snapshot.py",
        "        if target.credential not in renewed:\n",
        "        if True:\n",
        "a renewed secret inherits what the old one did",
    ),
    Mutant(
        "routing/explain.py",
        "        name = shape.due(lineup, now) or shape.turns.preview(",
        "        name = shape.turns.preview(",
        "the preview forgets whose trial is due",
    ),
    Mutant(
        "routing/explain.py",
        "    if not chosen and lineup is not None and kept_seat(lineup, last) is not None:\n",
        "    if False:\n",
        "the preview forgets affinity",
    ),
    Mutant(
        _HEALTH,
        "            if self.successes == SLOW_START_SUCCESSES:\n",
        "            if self.successes == SLOW_START_SUCCESSES - 1:\n",
        "slow start ends early",
    ),
    Mutant(
        _HEALTH,
        "        if self.holder is probe:\n            self.holder = None\n            self._slow_start()\n",
        "        self.holder = None\n        self._slow_start()\n",
        "whoever was a probe once can pass",
    ),
    Mutant(
        _HEALTH,
        "        pause = min(2.0 * self._error_pause, settings.cooldown_max)",
        "        pause = min(self._error_pause, settings.cooldown_max)",
        "cooldowns do not grow while probes fail",
    ),
    Mutant(
        _ROUTER,
        "            if ticket.panic:\n                circuit.recover()\n",
        "",
        "panic mode proves nothing",
    ),
    Mutant(
        _ROUTER,
        "        if ticket.panic:\n            ticket.state.panicking = False\n",
        "",
        "panic mode comes once",
    ),
    Mutant(
        "policy/retry.py",
        " * len(self._requests) + self._floor\n",
        " * len(self._requests)\n",
        "the budget has no floor",
    ),
    Mutant(
        "policy/ratelimit.py",
        "        self.reserved -= reserved\n",
        "",
        "reserved tokens never come back",
    ),
    Mutant(
        "policy/ratelimit.py",
        "            missing = allowance.reserved + tokens - limit + (0 if minute is None else minute.total)",
        "            missing = tokens - limit + (0 if minute is None else minute.total)",
        "what others have reserved is given out again",
    ),
    Mutant(
        "policy/ratelimit.py",
        "            self.owed = owed - counted\n",
        "            self.owed = 0\n",
        "what was used beyond a budget is forgotten",
    ),
    Mutant(
        "policy/ratelimit.py",
        "            if taken > rates.burst:\n",
        "            if taken > rates.burst + 1:\n",
        "one request more than the burst",
    ),
    Mutant(
        "policy/ratelimit.py",
        "            self.cost += cost\n",
        "            self.cost = cost\n",
        "a day's cost is that of the latest request",
    ),
    Mutant(
        "policy/ratelimit.py",
        "            allowance.cost = max(allowance.cost, used.cost)\n",
        "",
        "a restart makes a new budget of US dollars",
    ),
    Mutant(
        "policy/auth.py",
        "        if expires is not None and wall >= expires:\n",
        "        if expires is not None and wall > expires:\n",
        "an expired key has one more instant",
    ),
    Mutant(
        "exchange/account.py",
        "            used, cost = _charged(used, cost, served, Usage(self._prompt, sent))\n",
        "            used += self._prompt + sent\n",
        "an answer without usage costs nothing",
    ),
    Mutant(
        "exchange/flight.py",
        "        demand.allowed,\n",
        "",
        "keys of one label share answers that one of them may not have",
    ),
    Mutant(
        "routing/plan.py",
        "            demand.allowed,\n",
        "",
        "what one key was planned serves another one",
    ),
    Mutant(
        "routing/plan.py",
        "            if demand.allowed is not None and target.id not in demand.allowed:\n",
        "            if demand.allowed is not None and demand.forced_model and target.id not in demand.allowed:\n",
        "a key's models restrict only what is forced",
    ),
    Mutant(
        _EXCHANGE,
        "limits.max_body, client.grant)",
        "limits.max_body)",
        "a key is bound to nothing",
    ),
)
