"""Google's generateContent format as the Gemini API speaks it."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from gwproto.testing.answers import Answer, Ask, Tool, image_name, tokens
from gwproto.testing.formats.format import BadRequest, Format, Stamp, Stream, header, pieces
from gwproto.testing.formats.gemini_requests import Part, Request, Response, Thinking, parse, signs
from gwproto.values import Headers

_encode = msgspec.json.Encoder().encode
_TARGET = re.compile(r"/models/(?P<model>[^?]+):(?P<method>generateContent|streamGenerateContent)\Z")
_SIGNATURE = "c2ltdWxhdGVk"  # what Gemini 3 signs with here

Json = object
Fields = dict[str, object]


def decode(body: bytes, target: str) -> Ask:
    """Raises :class:`BadRequest`."""
    path, _, query = target.partition("?")
    match = _TARGET.search(path)
    assert match is not None, "find() sees to it"
    model, stream = unquote(match["model"]), match["method"] == "streamGenerateContent"
    if stream and parse_qs(query).get("alt") != ["sse"]:
        raise BadRequest("Only streams with alt=sse are simulated.")
    return _ask(parse(body, model), model, stream)


def _ask(request: Request, model: str, stream: bool) -> Ask:
    config, last = request.generation_config, request.contents[-1]
    users = [content for content in request.contents if content.role == "user"]
    spoken = [content.text for content in users if content.text]
    prompt = [content.text for content in (request.system_instruction, *request.contents)]
    return Ask(
        model=model,
        text=spoken[-1] if spoken else "",
        tool_result="\n".join(map(_result, last.responses)) if last.responses else None,
        images=tuple(image for content in users for part in content.parts for image in _images(part)),
        prompt="\n".join(prompt),
        stream=stream,
        include_usage=True,
        tools=_callable(request),
        json=config.response_mime_type == "application/json",
        schema=config.response_json_schema or _lower(config.response_schema),
        max_tokens=config.max_output_tokens,
        stop=tuple(config.stop_sequences),
        n=config.candidate_count,
        effort=_effort(config.thinking_config),
        logprobs=config.response_logprobs,
    )


def _result(response: Response) -> str:
    text = response.response.get("result")
    return text if isinstance(text, str) else _encode(response.response).decode()


def _images(part: Part) -> Iterator[str]:
    if part.inline_data is not None:
        yield image_name(f"data:{part.inline_data.mime_type};base64,{part.inline_data.data}")
    if part.file_data is not None:
        yield image_name(part.file_data.file_uri)


def _effort(thinking: Thinking) -> str:
    """The level, or the tokens it may take; only thoughts that are asked for show."""
    if thinking.thinking_budget == 0:
        return "none"
    budget = "" if thinking.thinking_budget is None else f"{thinking.thinking_budget}-token"
    return (thinking.thinking_level.lower() or budget) if thinking.include_thoughts else ""


def _callable(request: Request) -> tuple[Tool, ...]:
    calling = request.tool_config.function_calling_config
    if calling.mode == "NONE":
        return ()
    names = calling.allowed_function_names
    return tuple(
        Tool(one.name, one.parameters_json_schema or _lower(one.parameters) or {})
        for tool in request.tools
        for one in tool.function_declarations
        if not names or one.name in names
    )


def _lower(schema: Json) -> Json:
    """The service's own schemas name types in capitals."""
    if isinstance(schema, list):
        return [_lower(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.lower() if name == "type" and isinstance(value, str) else _lower(value)
        for name, value in schema.items()
    }


_FINISHES = {"length": "MAX_TOKENS"}  # all others: STOP


def whole(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp) -> bytes:
    """A ``GenerateContentResponse``, on several lines as the real ones."""
    candidates = []
    for index, answer in enumerate(choices):
        parts: list[Fields] = []
        if answer.reasoning:
            parts.append({"text": "".join(answer.reasoning), "thought": True})
        if answer.tokens:
            parts.append({"text": answer.text})
        parts += _calls(answer, stamp, index)
        if answer.tokens and signs(stamp.model):
            parts[-1]["thoughtSignature"] = _SIGNATURE
        logprobs = _logprobs(answer.tokens) if ask.logprobs else {}
        candidates.append({**_candidate(index, parts, answer.finish), **logprobs})
    thoughts = sum(len(answer.reasoning) for answer in choices)
    said = sum(answer.count for answer in choices) - thoughts
    document = _encode({"candidates": candidates, **_rest(ask, stamp, said, thoughts)})
    return msgspec.json.format(document, indent=2)


def _candidate(index: int, parts: list[Fields], finish: str = "") -> Fields:
    content: Fields = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    finishing = {"finishReason": _FINISHES.get(finish, "STOP")} if finish else {}
    return {"content": content, **finishing, "index": index}


def _calls(answer: Answer, stamp: Stamp, choice: int) -> list[Fields]:
    """Gemini 3 gives its calls ids, and the first of them a signature."""
    parts: list[Fields] = []
    for number, call in enumerate(answer.calls):
        function: Fields = {"name": call.name, "args": msgspec.Raw(call.arguments.encode())}
        part: Fields = {"functionCall": function}
        if signs(stamp.model):
            function["id"] = f"{stamp.id[-8:]}{choice}{number}"
            if not number:
                part["thoughtSignature"] = _SIGNATURE
        parts.append(part)
    return parts


def _logprobs(said: tuple[str, ...]) -> Fields:
    chosen = [{"token": token, "tokenId": 1, "logProbability": -0.25} for token in said]
    top = [{"candidates": [one]} for one in chosen]
    return {"logprobsResult": {"chosenCandidates": chosen, "topCandidates": top}}


def _rest(ask: Ask, stamp: Stamp, said: int, thoughts: int) -> Fields:
    """What stands beside the candidates; counts of nothing are left out."""
    prompt = len(tokens(ask.prompt))
    usage: Fields = {"promptTokenCount": prompt}
    if said:
        usage["candidatesTokenCount"] = said
    usage["totalTokenCount"] = prompt + said + thoughts
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return {"usageMetadata": usage, "modelVersion": stamp.model, "responseId": stamp.id}


def stream(ask: Ask, choices: tuple[Answer, ...], stamp: Stamp, words: int) -> Stream:
    """``words`` tokens to an event; a call is one. Usage counts up from event to event, and nothing marks the end."""
    said = thoughts = 0

    def event(candidate: Fields) -> bytes:
        return _event({"candidates": [candidate], **_rest(ask, stamp, said, thoughts)})

    content, finish = [], []
    for index, answer in enumerate(choices):
        for piece in pieces(answer.reasoning, words):
            thoughts += len(piece)
            content.append(event(_candidate(index, [{"text": "".join(piece), "thought": True}])))
        for part, call in zip(_calls(answer, stamp, index), answer.calls, strict=True):
            said += len(tokens(call.arguments))
            content.append(event(_candidate(index, [part])))
        for piece in pieces(answer.tokens, words):
            said += len(piece)
            logprobs = _logprobs(piece) if ask.logprobs else {}
            content.append(event({**_candidate(index, [{"text": "".join(piece)}]), **logprobs}))
    for index, answer in enumerate(choices):
        last: Fields = {"text": ""}
        if answer.tokens and signs(stamp.model):
            last["thoughtSignature"] = _SIGNATURE
        finish.append(event(_candidate(index, [last], answer.finish)))
    return Stream((), tuple(content), tuple(finish))


def _event(fields: Fields) -> bytes:
    return b"data: %s\r\n\r\n" % _encode(fields)


_KINDS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    402: ("FAILED_PRECONDITION", "Billing is not enabled for this project."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "The model is not found for API version v1beta."),
    405: ("NOT_FOUND", "Method not found."),
    408: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    422: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    429: (
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: "
        "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 10\nPlease retry in 30s.",
    ),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}
_UNKNOWN_MODEL = re.compile(r"`(.*)`")
_SERVER_ERROR = ("INTERNAL", "An internal error has occurred. Please retry.")
_TYPE = "type.googleapis.com/google.rpc."
_BAD_KEY = {
    "@type": f"{_TYPE}ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
    "metadata": {"service": "generativelanguage.googleapis.com"},
}
_QUOTA = {
    "@type": f"{_TYPE}QuotaFailure",
    "violations": [
        {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            "quotaDimensions": {"location": "global"},
            "quotaValue": "10",
        }
    ],
}
_RETRY = {"@type": f"{_TYPE}RetryInfo", "retryDelay": "30s"}


def error(
    status: int, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """An error body with the real service's kind of words. A bad key is to it a bad request."""
    word, usual = _KINDS.get(status, _SERVER_ERROR)
    if code == "model_not_found" and (named := _UNKNOWN_MODEL.search(message or "")):
        message = (
            f"models/{named[1]} is not found for API version v1beta, or is not supported for generateContent."
        )
    fields: Fields = {
        "code": STATUSES.get(status, status),
        "message": message or usual,
        "status": word,
    }
    details = {401: [_BAD_KEY], 429: [_QUOTA, _RETRY]}.get(status)
    if details:
        fields["details"] = details
    return msgspec.json.format(_encode({"error": fields}), indent=2)


#: The status that really goes with what elsewhere has another.
STATUSES = {401: 400, 402: 400, 405: 404, 422: 400, 529: 503}


def error_event(status: int) -> bytes:
    """An error inside a stream: on several lines, and not as an event."""
    return error(status).replace(b"\n", b"\r\n") + b"\r\n\r\n"


def models(names: tuple[str, ...], created: int, owner: str) -> bytes:
    """The list of models, which says neither when nor by whom."""
    return _encode(
        {
            "models": [
                {
                    "name": f"models/{name}",
                    "version": "001",
                    "displayName": name,
                    "inputTokenLimit": 1048576,
                    "outputTokenLimit": 65536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                    "thinking": signs(name),
                }
                for name in names
            ]
        }
    )


def key(headers: Headers, target: str) -> str:
    """The header, or the query's ``key``."""
    return header(headers, b"x-goog-api-key") or "".join(parse_qs(urlsplit(target).query).get("key", ()))


FORMAT = Format(
    name="gemini",
    base="/v1beta",
    id_prefix="",
    stream_type=b"text/event-stream",
    key=key,
    statuses=STATUSES,
    chat=_TARGET,
    listing=re.compile("/models$"),
    decode=decode,
    whole=whole,
    stream=stream,
    error=error,
    error_event=error_event,
    models=models,
)
