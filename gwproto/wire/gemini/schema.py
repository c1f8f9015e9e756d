"""Google's own schemas (Gemini API: Schema, a subset of OpenAPI 3.0's) as JSON Schema."""

from gwproto.wire.gemini.names import camel

# 64 bits wide, so protobuf writes them as strings.
_COUNTS = frozenset(("maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"))
_LEFT_OUT = frozenset(("nullable", "propertyOrdering", "example"))


def json_schema(schema: object) -> object:
    """The same said in JSON Schema; what is no schema stays as it is."""
    if not isinstance(schema, dict):
        return schema
    own = {camel(name): value for name, value in schema.items()}
    out = {name: _keyword(name, value) for name, value in own.items() if name not in _LEFT_OUT}
    if own.get("nullable") is True:
        if "type" in out:
            out["type"] = [out["type"], "null"]
        for name, nothing in (("enum", None), ("anyOf", {"type": "null"})):
            known = out.get(name)
            if isinstance(known, list):
                out[name] = [*known, nothing]
    return out


def _keyword(name: str, value: object) -> object:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if name == "properties" and isinstance(value, dict):
        return {key: json_schema(inner) for key, inner in value.items()}
    if name == "anyOf" and isinstance(value, list):
        return [json_schema(inner) for inner in value]
    if name == "items":
        return json_schema(value)
    if name in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    return value
