"""Requests of the Gemini API's generateContent: what the service knows, and what it refuses."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gwproto.testing.formats.format import BadRequest

_UPPER = re.compile(r"([A-Z])")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `\$\.?(?P<path>.*)`)?$")
_INVALID = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z")
_OPAQUE = frozenset(
    ("args", "response", "parameters_json_schema", "response_json_schema", "parameters", "response_schema")
)

Json = object
Fields = dict[str, object]


# The request in snake_case. Anything not named here is unknown to the service.
class _Message(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Blob(_Message, frozen=True):
    data: str
    mime_type: str
    display_name: str = ""


class _File(_Message, frozen=True):
    file_uri: str
    mime_type: str = ""
    display_name: str = ""


class _Call(_Message, frozen=True):
    name: str
    id: str = ""
    args: Fields = {}


class Response(_Message, frozen=True):
    name: str
    response: Fields
    id: str = ""
    scheduling: str = ""
    will_continue: bool = False
    parts: list[Fields] = []


class Part(_Message, frozen=True):
    text: str | None = None
    thought: bool = False
    thought_signature: str = ""
    inline_data: _Blob | None = None
    file_data: _File | None = None
    function_call: _Call | None = None
    function_response: Response | None = None
    executable_code: Fields | None = None
    code_execution_result: Fields | None = None
    video_metadata: Fields | None = None
    media_resolution: Fields | None = None
    part_metadata: Fields | None = None

    @property
    def says(self) -> bool:
        data = (
            self.inline_data,
            self.file_data,
            self.function_call,
            self.function_response,
            self.executable_code,
            self.code_execution_result,
        )
        return bool(self.text or self.thought_signature) or any(one is not None for one in data)


class _Content(_Message, frozen=True):
    parts: list[Part] = []
    role: str = "user"

    @property
    def calls(self) -> list[Part]:
        return [part for part in self.parts if part.function_call is not None]

    @property
    def responses(self) -> list[Response]:
        return [part.function_response for part in self.parts if part.function_response is not None]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.text and not part.thought)


class _Declaration(_Message, frozen=True):
    name: str
    description: str = ""
    parameters: Fields | None = None
    parameters_json_schema: Fields | None = None
    response: Fields | None = None
    response_json_schema: Fields | None = None
    behavior: str = ""


class _Tool(_Message, frozen=True):
    function_declarations: list[_Declaration] = []
    google_search: Fields | None = None
    google_search_retrieval: Fields | None = None
    google_maps: Fields | None = None
    code_execution: Fields | None = None
    url_context: Fields | None = None
    computer_use: Fields | None = None
    file_search: Fields | None = None


class _Calling(_Message, frozen=True):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] = "MODE_UNSPECIFIED"
    allowed_function_names: list[str] = []


class _ToolConfig(_Message, frozen=True):
    function_calling_config: _Calling = _Calling()
    retrieval_config: Fields | None = None


class Thinking(_Message, frozen=True):
    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: Literal["", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"] = ""


class _Config(_Message, frozen=True):
    stop_sequences: list[str] = []
    response_mime_type: str = ""
    response_schema: Fields | None = None
    response_json_schema: Fields | None = None
    response_modalities: list[str] = []
    candidate_count: Annotated[int, Meta(ge=1, le=8)] = 1
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    seed: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool = False
    logprobs: int | None = None
    enable_enhanced_civic_answers: bool = False
    speech_config: Fields | None = None
    thinking_config: Thinking = Thinking()
    image_config: Fields | None = None
    media_resolution: str = ""


class Request(_Message, frozen=True):
    contents: list[_Content] = []
    model: str = ""
    system_instruction: _Content = _Content()
    tools: list[_Tool] = []
    tool_config: _ToolConfig = _ToolConfig()
    safety_settings: list[Fields] = []
    generation_config: _Config = _Config()
    cached_content: str = ""
    service_tier: str = ""
    store: bool = False


def _snake(value: Json) -> Json:
    """Names in snake_case, null members gone; what belongs to the user stays as it is."""
    if isinstance(value, list):
        return [_snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    out: Fields = {}
    for name, inner in value.items():
        known = _UPPER.sub(r"_\1", name).lower()
        if inner is not None:
            out[known] = inner if known in _OPAQUE else _snake(inner)
    return out


def parse(body: bytes, model: str) -> Request:
    """Raises :class:`BadRequest`."""
    try:
        request = msgspec.convert(_snake(msgspec.json.decode(body)), Request)
    except msgspec.ValidationError as problem:
        raise BadRequest(_complaint(str(problem))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("Invalid JSON payload received. Unexpected token.") from None
    _check(request, model)
    return request


def _complaint(problem: str) -> str:
    if unknown := _UNKNOWN.match(problem):
        where = f" at '{unknown['path']}'" if unknown["path"] else ""
        return f'Invalid JSON payload received. Unknown name "{unknown["name"]}"{where}: Cannot find field.'
    invalid = _INVALID.match(problem)
    assert invalid is not None
    return f"Invalid value at '{invalid['path'] or ''}': {invalid['what']}"


def _check(request: Request, model: str) -> None:
    """The service's rules beyond types."""
    config = request.generation_config
    declared = [one for tool in request.tools for one in tool.function_declarations]
    if not request.contents:
        _refuse("* GenerateContentRequest.contents: contents is not specified")
    for position, content in enumerate(request.contents):
        if content.role not in ("user", "model"):
            _refuse("Please use a valid role: user, model.")
        if not content.parts:
            _refuse(f"* GenerateContentRequest.contents[{position}].parts: contents.parts must not be empty.")
        if not all(part.says for part in content.parts):
            _refuse(
                f"* GenerateContentRequest.contents[{position}].parts[0].data: required oneof field 'data' must have"
                " one initialized field"
            )
    _check_turns(request.contents, model)
    if request.system_instruction.parts and model.startswith("gemma-3"):
        _refuse(f"Developer instruction is not enabled for models/{model}")
    if config.temperature is not None and not 0 <= config.temperature <= 2:
        _refuse("* GenerateContentRequest.generation_config.temperature: must be in the range [0.0, 2.0].")
    if config.max_output_tokens is not None and config.max_output_tokens < 1:
        _refuse("max_output_tokens must be positive.")
    if len(config.stop_sequences) > 5:
        _refuse("The number of stop sequences must not exceed 5.")
    if config.logprobs is not None and not config.response_logprobs:
        _refuse("logprobs may only be set when response_logprobs is true.")
    thinking = config.thinking_config
    if thinking.thinking_level and thinking.thinking_budget is not None:
        _refuse("You can only set only one of thinking budget and thinking level.")
    if config.response_schema is not None and config.response_json_schema is not None:
        _refuse("Only one of response_schema and response_json_schema may be set.")
    schema = config.response_schema or config.response_json_schema
    if schema is not None and config.response_mime_type != "application/json":
        _refuse("A response schema is only supported with response mime type: 'application/json'")
    if declared and config.response_mime_type == "application/json" and not signs(model):
        _refuse("Function calling with a response mime type: 'application/json' is unsupported")
    _check_tools(declared, request.tool_config.function_calling_config)


def _refuse(message: str) -> None:
    raise BadRequest(message)


def signs(model: str) -> bool:
    return model.startswith("gemini-3")


def _check_turns(contents: list[_Content], model: str) -> None:
    before: _Content | None = None
    for content in contents:
        if content.calls and (before is None or content.role != "model" or before.role != "user"):
            _refuse(
                "Please ensure that function call turn comes immediately after a user turn or after a function response"
                " turn."
            )
        calls = before.calls if before is not None else []
        if content.responses and not calls:
            _refuse("Please ensure that function response turn comes immediately after a function call turn.")
        if len(content.responses) != len(calls):
            _refuse(
                "Please ensure that the number of function response parts is equal to the number of function call parts"
                " of the function call turn."
            )
        if content.calls and signs(model) and not content.calls[0].thought_signature:
            called = content.calls[0].function_call
            assert called is not None
            _refuse(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work"
                f" correctly. Additional data, function call `default_api:{called.name}`."
            )
        before = content


def _check_tools(declared: list[_Declaration], calling: _Calling) -> None:
    for position, one in enumerate(declared):
        at = f"* GenerateContentRequest.tools[0].function_declarations[{position}]"
        if not _NAME.match(one.name):
            _refuse(f"{at}.name: Invalid function name.")
        if one.parameters is not None and one.parameters_json_schema is not None:
            _refuse(f"{at}: only one of parameters and parameters_json_schema may be set.")
        schema = one.parameters or one.parameters_json_schema
        if (
            schema is not None
            and str(schema.get("type")).lower() == "object"
            and not schema.get("properties")
        ):
            _refuse(f"{at}.parameters.properties: should be non-empty for OBJECT type")
    names = {one.name for one in declared}
    if calling.mode == "ANY" and not declared:
        _refuse("Function calling config is set without function_declarations.")
    if calling.allowed_function_names and calling.mode not in ("ANY", "VALIDATED"):
        _refuse("allowed_function_names should be set only when function calling mode is ANY or VALIDATED.")
    if unknown := [name for name in calling.allowed_function_names if name not in names]:
        _refuse(f"Function name {unknown[0]} is not among the function declarations.")
