"""Google's JSON may spell every name in camelCase or in snake_case (protobuf: ProtoJSON)."""

import re

_UNDERSCORE = re.compile(r"_([a-z])")


def camel(name: str) -> str:
    """A name in camelCase, however it is spelled."""
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)
