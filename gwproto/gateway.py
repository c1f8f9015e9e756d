"""What outlives a request: the gateway begins exchanges and answers for itself."""

import random
from collections.abc import Callable, Collection
from urllib.parse import unquote

import msgspec

from gwproto.answers import Probe, health, json_answer, model, models, rejected, routing_status
from gwproto.commands import Delegate
from gwproto.compiling import mypyc_attr
from gwproto.exchange.account import open_account
from gwproto.exchange.base import Exchange
from gwproto.exchange.exchange import ChatExchange
from gwproto.exchange.intake import announced, not_for
from gwproto.exchange.operation import Operation
from gwproto.exchange.reply import CLOSE, Answer, Reply, error_answer, refused
from gwproto.exchange.shared import Shared
from gwproto.exchange.sharing import SharingExchange
from gwproto.failures import Failure
from gwproto.gateway_values import Configuration, Page, State, Statistics
from gwproto.operations import explain, reset
from gwproto.policy.address import Addresses
from gwproto.policy.auth import Authenticator
from gwproto.policy.cors import cross_origin
from gwproto.policy.guard import guard, path_of
from gwproto.policy.limits import Limits
from gwproto.policy.values import Accepted, Rejection
from gwproto.queries import AnalyticsQuery, PageQuery, RequestsQuery, StatsQuery, read_query
from gwproto.routing.catalog import Catalog
from gwproto.routing.router import Router
from gwproto.values import RequestHead

_NOBODY = Accepted("")
_CHAT = "/v1/chat/completions"
_RETRY_SOON = (b"retry-after", b"1")
#: Whoever restarts what does not answer these must not be refused.
_PROBES = frozenset(("/livez", "/readyz", "/health/liveliness", "/health/readiness"))


class _Route:
    """``endpoint``: its name in records."""

    __slots__ = ("answer", "endpoint")

    def __init__(self, endpoint: str, answer: "Callable[[Gateway, float], Answer]") -> None:
        self.endpoint = endpoint
        self.answer = answer


@mypyc_attr(allow_interpreted_subclasses=True)
class Gateway:
    """One per process. ``epoch`` turns monotonic into wall time: wall = ``now + epoch``.

    ``router``: another policy in place of the gateway's own, for comparisons.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        rng: random.Random,
        epoch: float,
        router: Router | None = None,
    ) -> None:
        self._configuration = configuration
        self._authenticator = _authenticator(configuration)
        if router is None:
            router = Router(configuration.catalog, configuration.settings, rng=rng, epoch=epoch)
        self._shared = Shared(configuration.settings, router, rng, epoch)
        self._limits = Limits(configuration.settings.limits, configuration.keys, epoch)
        self._addresses = Addresses(configuration.settings.server.trusted_proxies)
        self._cross_origin = cross_origin(configuration.settings.server.cors_origins)
        self._begun = 0
        self._draining_since: float | None = None

    @property
    def configuration(self) -> Configuration:
        return self._configuration

    def begin(self, head: RequestHead, now: float) -> Exchange:
        """Begin the exchange for a request, by its head alone. Never raises for what a client sent."""
        self._begun += 1
        access = self._cross_origin
        refused = guard(head)
        if refused is not None:
            exchange = self.refuse(refused.status, "bad_request", refused.message, now, head)
        elif access is not None and (granted := access.preflight(head)) is not None:
            exchange = self._reply(head, now, Answer(204, b"", headers=granted), "")
        else:
            exchange = self._begin(head, now)
        if access is not None:
            exchange.extra = access.headers(head)
        return exchange

    def _begin(self, head: RequestHead, now: float) -> Exchange:
        if head.target == _CHAT:  # as it is mostly written
            return self._begin_chat(head, now)
        path = _normal(path_of(head.target))
        if path == "/chat/completions":
            return self._begin_chat(head, now)
        if path in _OPERATIONS:
            return self._begin_operation(head, path, now)
        page = _PAGES.get(path)
        if page is not None and page.key and not (page.stats and self._shared.settings.server.public_stats):
            client = self._authenticate(head, page.endpoint, now)
            if not isinstance(client, Accepted):
                return client
            return self._begin_page(head, page, now, client)
        if path not in _PROBES and (over := self._over(head, now)) is not None:
            known = page or _ROUTES.get(path)
            return self._rejected(head, now, over, "" if known is None else known.endpoint)
        if page is not None:
            return self._begin_page(head, page, now)
        if path.startswith(_CONSOLE):
            return self._begin_page(head, _PAGES["/"], now, file=path[len(_CONSOLE) :])
        if path.startswith("/models/"):
            name = unquote(path[len("/models/") :])  # ids may contain slashes and colons
            route = _Route(
                "/v1/models/{id}",
                lambda gateway, now: model(gateway.catalog, gateway.shared, name, now),
            )
        else:
            found = _ROUTES.get(path)
            if found is None:
                return self._unknown(head, now)
            route = found
        if head.method not in ("GET", "HEAD"):
            return self._wrong_method(head, now, route.endpoint)
        answer = route.answer(self, now)
        return self._reply(head, now, answer, route.endpoint)

    def refuse(
        self, status: int, code: str, message: str, now: float, head: RequestHead | None = None
    ) -> Exchange:
        """An error for what an HTTP parser could not read, and for what the guard refused; it closes the connection."""
        if head is None:
            head = RequestHead("", "", ())
        return self._refusal(head, now, status, code, message, headers=(CLOSE,))

    def reconfigure(self, configuration: Configuration, now: float, *, renewed: Collection[str] = ()) -> None:
        """Change everything at once. Exchanges in flight keep what they started with; memory of health
        and of what limits were drawn on stays, but for the credentials in ``renewed``: their secret is another one."""
        self._authenticator = _authenticator(configuration)
        self._limits.reconfigure(configuration.settings.limits, configuration.keys, now)
        self._addresses = Addresses(configuration.settings.server.trusted_proxies)
        self._cross_origin = cross_origin(configuration.settings.server.cors_origins)
        self._shared.reconfigure(configuration.settings)
        self._shared.router.reconfigure(configuration.catalog, configuration.settings, now, renewed=renewed)
        self._configuration = configuration

    def snapshot(self, now: float) -> State:
        """What is worth keeping over a restart, as a value."""
        return State(now + self._shared.epoch, self._shared.router.snapshot(now), self._limits.snapshot(now))

    def restore(self, state: State, now: float, *, renewed: Collection[str] = ()) -> None:
        """Go on from what another process knew, aged by the time in between. ``renewed``: credentials whose secret has
        changed meanwhile. Call it before the first request."""
        elapsed = max(0.0, now + self._shared.epoch - state.at)
        self._shared.router.restore(state.router, elapsed, now, renewed=renewed)
        self._limits.restore(state.limits, now)

    def drain(self, now: float) -> None:
        """The process is stopping: ``/readyz`` says so from now on. Requests are still answered."""
        if self._draining_since is None:
            self._draining_since = now

    def statistics(self, now: float) -> Statistics:
        since = self._draining_since
        return Statistics(self._shared.in_flight, self._begun, None if since is None else now - since)

    @property
    def catalog(self) -> Catalog:
        return self._configuration.catalog

    @property
    def shared(self) -> Shared:
        return self._shared

    @property
    def limits(self) -> Limits:
        """What clients have used; ``snapshot`` and ``restore`` keep the day's budgets over a restart."""
        return self._limits

    def _begin_chat(self, head: RequestHead, now: float) -> Exchange:
        endpoint = _CHAT
        if head.method != "POST":
            return self._wrong_method(head, now, endpoint)
        client = self._authenticate(head, endpoint, now)
        if not isinstance(client, Accepted):
            return client
        limits = self._shared.settings.limits
        if self._shared.in_flight >= limits.max_in_flight:
            return self._refusal(
                head,
                now,
                503,
                "overloaded",
                "Too many requests in flight.",
                type="service_unavailable",
                endpoint=endpoint,
                headers=(_RETRY_SOON, CLOSE),
            )
        account = open_account(self._limits, client.label, now)
        if type(account) is Rejection:
            return self._rejected(head, now, account, endpoint, client.label)
        kind = SharingExchange if self._shared.settings.single_flight.enabled else ChatExchange
        return self._announced(head, endpoint, now) or kind(
            head, self._shared.new_id(), now, shared=self._shared, client=client, account=account
        )

    def _begin_operation(self, head: RequestHead, path: str, now: float) -> Exchange:
        endpoint = "/v1" + path
        if head.method != "POST":
            return self._wrong_method(head, now, endpoint)
        client = self._authenticate(head, endpoint, now)
        if not isinstance(client, Accepted):
            return client
        perform = _OPERATIONS[path]
        return self._announced(head, endpoint, now) or Operation(
            head,
            self._shared.new_id(),
            now,
            perform=lambda intake, then: perform(intake, self.catalog, self._shared, then),
            endpoint=endpoint,
            shared=self._shared,
            client=client,
        )

    def _begin_page(
        self, head: RequestHead, page: Page, now: float, client: Accepted = _NOBODY, *, file: str = ""
    ) -> Exchange:
        if head.method not in ("GET", "HEAD"):
            return self._wrong_method(head, now, page.endpoint)
        is_file = page.query is PageQuery  # whose name stands in the path; a query says nothing to it
        text = f"file={file}" if is_file else path_of(head.target).partition("?")[2]
        query = read_query(text, page.query)
        if is_file and isinstance(query, Failure):
            return self._unknown(head, now)
        projects = None if client.grant is None else client.grant.projects
        if projects is not None and isinstance(query, AnalyticsQuery | RequestsQuery):
            if not query.project_id:
                query = msgspec.structs.replace(query, project_id=projects[0])
            elif query.project_id not in projects:
                query = not_for(query.project_id)
        if isinstance(query, Failure):
            return self._reply(head, now, refused(query), page.endpoint, client.label)
        asked = Delegate(page.name, msgspec.json.encode(query).decode())
        return self._reply(head, now, asked, page.endpoint, client.label)

    def _unknown(self, head: RequestHead, now: float) -> Exchange:
        where = f"{head.method} {head.target.partition('?')[0]}"[:200]
        return self._refusal(head, now, 404, "unknown_url", f"Invalid URL ({where})")

    def _authenticate(self, head: RequestHead, endpoint: str, now: float) -> Accepted | Exchange:
        """Whose key it is, or the refusal."""
        verdict = self._authenticator.check(head.headers, now + self._shared.epoch)
        if isinstance(verdict, Accepted):
            return verdict
        if (over := self._over(head, now)) is not None:
            answer = rejected(over)
        else:
            kind = "authentication_error" if verdict.status == 401 else "invalid_request_error"
            answer = error_answer(verdict.status, verdict.code, verdict.message, type=kind)
        shared = self._shared
        return Reply(
            head,
            shared.new_id(),
            now,
            answer=answer,
            endpoint=endpoint,
            epoch=shared.epoch,
            key=verdict.label,
            rejected=verdict.reason,
            client=self._addresses.of(head),
        )

    def _announced(self, head: RequestHead, endpoint: str, now: float) -> Exchange | None:
        """The refusal of a body that its head alone makes impossible."""
        problem = announced(head.headers, self._shared.settings.limits.max_body)
        if problem is None:
            return None
        return self._reply(head, now, refused(problem, (CLOSE,)), endpoint)

    def _over(self, head: RequestHead, now: float) -> Rejection | None:
        """Count a request without a valid key against its address."""
        addresses = self._limits.addresses
        return None if addresses.rates("") is None else addresses.request(self._addresses.of(head), now)

    def _rejected(
        self, head: RequestHead, now: float, rejection: Rejection, endpoint: str, key: str = ""
    ) -> Exchange:
        return self._reply(head, now, rejected(rejection), endpoint, key)

    def _wrong_method(self, head: RequestHead, now: float, endpoint: str) -> Exchange:
        message = f"Method {head.method} is not allowed here."
        return self._refusal(head, now, 405, "method_not_allowed", message, endpoint=endpoint)

    def _refusal(
        self,
        head: RequestHead,
        now: float,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        endpoint: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Exchange:
        if status == 405:
            headers = (*headers, _allow(_normal(path_of(head.target))))
        answer = error_answer(status, code, message, type=type, headers=headers)
        return self._reply(head, now, answer, endpoint)

    def _reply(
        self, head: RequestHead, now: float, answer: Answer | Delegate, endpoint: str, key: str = ""
    ) -> Exchange:
        shared = self._shared
        return Reply(
            head, shared.new_id(), now, answer=answer, endpoint=endpoint, epoch=shared.epoch, key=key
        )

    def _ready(self, now: float) -> Answer:
        if self._draining_since is not None:
            return json_answer(Probe("draining"), status=503, headers=(_RETRY_SOON,))
        return json_answer(Probe("ok"))


def _authenticator(configuration: Configuration) -> Authenticator:
    names = configuration.catalog.names
    return Authenticator(configuration.keys, lambda name: [target.id for target in names.get(name, ())])


def _normal(target: str) -> str:
    """The path without its query, the ``/v1`` prefix and a trailing slash."""
    path = target.partition("?")[0]
    if path.startswith("/v1/"):
        path = path[3:]
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _allow(path: str) -> tuple[bytes, bytes]:
    """The methods there are (RFC 9110, 15.5.6)."""
    return b"allow", b"POST" if path == "/chat/completions" or path in _OPERATIONS else b"GET, HEAD"


def _live(gateway: Gateway, now: float) -> Answer:
    return json_answer(Probe("ok"))


_ROUTES: dict[str, _Route] = {
    "/livez": _Route("/livez", _live),
    "/health/liveliness": _Route("/livez", _live),
    "/readyz": _Route("/readyz", Gateway._ready),
    "/health/readiness": _Route("/readyz", Gateway._ready),
    "/health": _Route("/health", lambda gateway, now: health(gateway.shared, now)),
    "/models": _Route("/v1/models", lambda gateway, now: models(gateway.catalog, gateway.shared, now)),
    "/routing/status": _Route("/v1/routing/status", lambda gateway, now: routing_status(gateway.shared, now)),
}
_CONSOLE = "/console/"
_PAGES = {
    "/": Page("console", "/", PageQuery, key=False),
    "/analytics": Page("analytics", "/v1/analytics", AnalyticsQuery, stats=True),
    "/metrics": Page("metrics", "/metrics", stats=True),
    "/openapi.json": Page("openapi", "/openapi.json", key=False),
    "/requests": Page("requests", "/v1/requests", RequestsQuery),
    "/stats/providers": Page("stats", "/v1/stats/providers", StatsQuery, stats=True),
}
_OPERATIONS = {"/routing/explain": explain, "/routing/reset": reset}
