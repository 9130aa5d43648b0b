"""What a stranger may put into a file so that reading it never ends, or ends in a crash."""

from collections import OrderedDict
from typing import Any


def itself(kind: type) -> Any:
    """A list or dictionary that contains itself."""
    content = kind()
    if kind is list:
        content.append(content)
    else:
        content["itself"] = content
    return content


def unfolding(kind: type, times: int) -> Any:
    """Containers that share their parts, so that a walk through them takes 2 to the power of ``times`` steps."""
    content: Any = "end"
    for _ in range(times):
        content = {"a": content, "b": content} if kind is dict else kind([content, content])
    return content


def nested(kind: type, times: int) -> Any:
    """Containers in each other."""
    content: Any = "end"
    for _ in range(times):
        content = {"in": content} if kind is dict else kind([content])
    return content


def with_attribute(content: Any, name: str) -> Any:
    """An ordered dictionary or tensor that has an attribute in place of a method."""
    content = OrderedDict(content) if type(content) is dict else content
    setattr(content, name, "not a method")
    return content
