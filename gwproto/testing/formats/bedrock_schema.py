"""What a request of Amazon Bedrock's Converse is made of, Claude's own fields included."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gwproto.testing.answers import Json

Name = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, Meta(pattern="^[a-zA-Z0-9_.:-]{1,64}$")]


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An object whose keys are all known."""


class Source(Strict, frozen=True):
    bytes: Annotated[str, Meta(min_length=1, pattern="^[A-Za-z0-9+/]+=*$")]


class Image(Strict, frozen=True):
    format: Literal["png", "jpeg", "gif", "webp"]
    source: Source


class Document(Strict, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    source: Source
    format: Literal["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"] = "txt"


class ToolUse(Strict, frozen=True):
    toolUseId: CallId
    name: Name
    input: dict[str, Json]


class Said(Strict, frozen=True):
    """What a tool says: one of these."""

    text: str | None = None
    json: dict[str, Json] | None = None
    image: Image | None = None
    document: Document | None = None


class ToolResult(Strict, frozen=True):
    toolUseId: CallId
    content: list[Said]
    status: Literal["success", "error"] = "success"


class ReasoningText(Strict, frozen=True):
    text: str
    signature: str = ""


class Reasoning(Strict, frozen=True):
    reasoningText: ReasoningText | None = None
    redactedContent: str = ""


class CachePoint(Strict, frozen=True):
    type: Literal["default"]
    ttl: Literal["5m", "1h"] = "5m"


class Block(Strict, frozen=True):
    """One of these."""

    text: str | None = None
    image: Image | None = None
    document: Document | None = None
    toolUse: ToolUse | None = None
    toolResult: ToolResult | None = None
    reasoningContent: Reasoning | None = None
    cachePoint: CachePoint | None = None

    @property
    def kind(self) -> str:
        """The name of the one that is there; of several, all."""
        return " ".join(name for name in self.__struct_fields__ if getattr(self, name) is not None)


class Message(Strict, frozen=True):
    role: Literal["user", "assistant"]
    content: list[Block]


class System(Strict, frozen=True):
    text: Annotated[str, Meta(min_length=1)] = " "
    cachePoint: CachePoint | None = None


class Inference(Strict, frozen=True):
    maxTokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    topP: Annotated[float, Meta(ge=0, le=1)] | None = None
    stopSequences: Annotated[list[str], Meta(max_length=2500)] = []


class Schema(Strict, frozen=True):
    json: dict[str, Json]


class Spec(Strict, frozen=True):
    name: Name
    inputSchema: Schema
    description: Annotated[str, Meta(min_length=1)] = "…"
    strict: bool = False


class Tool(Strict, frozen=True):
    toolSpec: Spec | None = None
    cachePoint: CachePoint | None = None


class Nothing(Strict, frozen=True):
    pass


class Named(Strict, frozen=True):
    name: Name


class Choice(Strict, frozen=True):
    auto: Nothing | None = None
    any: Nothing | None = None
    tool: Named | None = None


class Tools(Strict, frozen=True):
    tools: Annotated[list[Tool], Meta(min_length=1)] = []
    toolChoice: Choice = Choice()


class JsonSchema(Strict, frozen=True):
    schema: str
    name: str = ""
    description: str = ""


class Structure(Strict, frozen=True):
    jsonSchema: JsonSchema


class TextFormat(Strict, frozen=True):
    type: Literal["json_schema"]
    structure: Structure


class Output(Strict, frozen=True):
    textFormat: TextFormat | None = None
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = ""


class Thinking(Strict, frozen=True):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None


class OutputConfig(Strict, frozen=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] = "high"


class More(Strict, frozen=True):
    """Fields of the model's own."""

    thinking: Thinking = Thinking("disabled")
    output_config: OutputConfig = OutputConfig()
    top_k: Annotated[int, Meta(ge=0)] | None = None

    @property
    def thinks(self) -> bool:
        return self.thinking.type != "disabled"


class Request(Strict, frozen=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: list[System] = []
    inferenceConfig: Inference = Inference()
    toolConfig: Tools | None = None
    outputConfig: Output = Output()
    additionalModelRequestFields: More = More()
    requestMetadata: dict[str, str] = {}
    serviceTier: dict[str, str] = {}
