"""OpenAI's Responses shape, as some of the service's models answer in it (OpenAI: Responses API, response object)."""

from msgspec import Raw

from gwproto.values import Usage
from gwproto.wire.neutral import Chunk, Delta, RawFields, ToolFragment
from gwproto.wire.openai.parts import created_of, fields_of, list_of, text_of, value_of


def chunk_of_response(fields: RawFields) -> Chunk:
    """The whole response as one chunk: the texts of its messages, its reasoning and its function calls."""
    content: list[str] = []
    reasoning: list[str] = []
    tools: list[ToolFragment] = []
    for raw in list_of(fields.get("output")):
        item = fields_of(raw)
        kind = text_of(item.get("type"))
        if kind == "message":
            content += _texts(item, "content")
        elif kind == "reasoning":
            reasoning += _texts(item, "content") or _texts(item, "summary")
        elif kind == "function_call":
            id_ = text_of(item.get("call_id")) or text_of(item.get("id"))
            arguments = text_of(item.get("arguments")) or ""
            tools.append(ToolFragment(None, id_, text_of(item.get("name")), arguments))
    incomplete = text_of(fields_of(fields.get("incomplete_details")).get("reason"))
    delta = Delta(
        content="".join(content) or None,
        reasoning="".join(reasoning) or None,
        tools=tuple(tools),
        finish=incomplete,  # max_output_tokens, content_filter
    )
    id_ = text_of(fields.get("id")) or ""
    model = text_of(fields.get("model")) or ""
    return Chunk((delta,), id_, created_of(fields.get("created_at")), model, _usage(fields.get("usage")))


def _texts(item: RawFields, name: str) -> list[str]:
    return [text for part in list_of(item.get(name)) if (text := text_of(fields_of(part).get("text")))]


def _usage(raw: Raw | None) -> Usage | None:
    fields = fields_of(raw)
    prompt, completion = _count(fields, "input_tokens") or 0, _count(fields, "output_tokens") or 0
    if not (prompt or completion):
        return None
    return Usage(
        prompt,
        completion,
        _count(fields, "total_tokens") or prompt + completion,
        _count(fields_of(fields.get("input_tokens_details")), "cached_tokens"),
        _count(fields_of(fields.get("output_tokens_details")), "reasoning_tokens"),
    )


def _count(fields: RawFields, name: str) -> int | None:
    value = value_of(fields.get(name))
    return value if type(value) is int and value >= 0 else None
