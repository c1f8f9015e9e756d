"""Whatever OpenAPI allows or forbids, sent to both servers: answers are as described, nothing is a mistake of ours.

``HYPOTHESIS_PROFILE=deep`` sends forty times as much.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gwproto_ops import openapi
from support.servers import KEY, RUNTIMES, GatewayProcess, Provider, configuration, hosting, serving

pytestmark = [pytest.mark.sockets, pytest.mark.unmeasured]

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
LIMITS = "[limits]\npublic_requests_per_second = 0\n"  # everything comes from one address


# The provider has the last word on what is passed on to it. What the gateway takes, explain tells: it has the same body
# and headers.
EXCLUDED: dict[str, list[CheckFunction]] = {"/v1/chat/completions": [positive_data_acceptance]}


def described() -> dict[str, Any]:
    """The document, with what it leaves out: the names there are, which only a configuration can say, and that what is
    empty counts as absent."""
    known: dict[str, Any] = json.loads(openapi.answer("{}")[2])
    chat = known["paths"]["/v1/chat/completions"]["post"]["parameters"]
    explain = known["paths"]["/v1/routing/explain"]["post"]["parameters"]
    names = {"x-gateway-force-provider": ["", "local"], "x-gateway-force-model": ["", "local-model"]}
    for parameter in (*chat, *explain):
        if parameter["name"] in names:
            parameter["schema"]["enum"] = names[parameter["name"]]
    reset = known["components"]["schemas"]["Reset"]["properties"]
    reset["provider"]["anyOf"][0]["enum"] = ["", "local"]
    reset["model"]["anyOf"][0]["enum"] = ["", "local-model"]
    reset["key"]["anyOf"][0]["enum"] = ["", "local"]
    for path in ("/v1/analytics", "/v1/stats/providers", "/v1/requests"):
        for parameter in known["paths"][path]["get"]["parameters"]:
            parameter["schema"] = {"anyOf": [parameter["schema"], {"const": ""}]}
    (cursor,) = [
        one for one in known["paths"]["/v1/requests"]["get"]["parameters"] if one["name"] == "before"
    ]
    cursor["schema"] = {"const": ""}  # all others are an earlier answer's
    known["paths"]["/v1/models/{id}"]["get"]["parameters"][0]["examples"] = {"it": {"value": "local-model"}}
    return known


schema = schemathesis.openapi.from_dict(
    described(), config=SchemathesisConfig.from_dict({"seed": 5, "generation": {"deterministic": True}})
)


INTEGERS = ("max_completion_tokens", "max_tokens", "n", "seed", "top_logprobs")


@schema.hook
def filter_body(context: schemathesis.HookContext, body: object) -> bool:
    """1.0 is an integer to JSON Schema, and never to whoever reads a body into types. No client writes one so."""
    return not isinstance(body, dict) or not any(isinstance(body.get(name), float) for name in INTEGERS)


@pytest.fixture(scope="module", params=RUNTIMES)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    provider = Provider("local")
    directory: Path = tmp_path_factory.mktemp("gateway")
    with hosting([provider]) as urls:
        file = configuration([provider], urls, LIMITS, local='api_key_env = "LOCAL_KEY"')
        environ = {"GATEWAY_API_KEY": KEY, "LOCAL_KEY": "sk-local"}
        with serving(
            directory, request.param, file, environ=environ, notices=r"WARNING gwproto\.audit: .*"
        ) as process:
            yield process


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@schema.parametrize()
@settings(
    max_examples=500 if DEEP else 12,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate) if not DEEP else settings().phases,
    suppress_health_check=list(HealthCheck),  # what is generated is schemathesis's affair
)
def test_it_is_as_described(
    case: schemathesis.Case[Any], gateway: GatewayProcess, session: requests.Session
) -> None:
    case.call_and_validate(
        base_url=gateway.url,
        session=session,
        headers={"Authorization": f"Bearer {KEY}"},
        excluded_checks=EXCLUDED.get(case.operation.path),
    )
