"""What holds between the fields of a chat request, which types alone do not say: ``wire/openai/request.py`` checks it.

Each rule is JSON Schema, added to the component of that name.
"""

from typing import Any

Schema = dict[str, Any]


def _has(**fields: Schema) -> Schema:
    """These fields are there, and are like that."""
    return {"required": list(fields), "properties": fields}


def _is(value: object) -> Schema:
    return {"const": value}


def _if(condition: Schema, consequence: Schema) -> Schema:
    return {"if": condition, "then": consequence}


_OBJECT: Schema = {"type": "object"}
_STRING: Schema = {"type": "string"}
_WORD: Schema = {"type": "string", "minLength": 1}
_LINK: Schema = {"type": ["string", "object"]}

RULES: dict[str, list[Schema]] = {
    "ChatCompletionRequest": [
        {"anyOf": [_has(messages={"type": "array"}), _has(prompt=_STRING)]},
        _if(_has(top_logprobs={"type": "integer"}), _has(logprobs=_is(True))),
        _if(_has(stream_options=_OBJECT), _has(stream=_is(True))),
    ],
    "Message": [
        {
            "anyOf": [
                _has(content={"type": ["string", "array"]}),
                _has(role=_is("function")),
                _has(role=_is("assistant"), tool_calls={"type": "array", "minItems": 1}),
                _has(role=_is("assistant"), function_call=_OBJECT),
                _has(role=_is("assistant"), refusal=_STRING),
                _has(role=_is("assistant"), audio=_OBJECT),
                _has(role=_is("assistant"), reasoning_content=_STRING),
            ]
        },
        _if(_has(role=_is("tool")), _has(tool_call_id=_WORD)),
        _if(_has(role=_is("function")), _has(name=_WORD)),
    ],
    "Part": [
        _if(_has(type=_is("text")), _has(text=_STRING)),
        _if(_has(type=_is("image_url")), _has(image_url=_LINK)),
        _if(_has(type=_is("input_audio")), _has(input_audio=_LINK)),
    ],
    "Call": [{"anyOf": [_has(function=_OBJECT), _has(custom=_OBJECT)]}],
    "Tool": [_if(_has(type=_is("function")), _has(function=_OBJECT))],
    "ResponseFormat": [_if(_has(type=_is("json_schema")), _has(json_schema=_OBJECT))],
}
