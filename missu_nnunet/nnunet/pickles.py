"""Finds out what a pickle would do, without unpickling it.

Unpickling runs whatever the file names. Here its opcodes are followed on a stack of stand-ins, as the standard library
describes them. This shows which names the pickle would import, and how its containers are nested.
"""

import pickletools
from collections.abc import Callable
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.text import first_line, printable

MAX_BYTES = 64 * 2**20
"""The largest pickle that is accepted; that of a checkpoint, whose tensors lie elsewhere, is far smaller."""

MAX_DEPTH = 100
"""How deep containers may be nested."""

MAX_UNFOLDING = 100
"""How many times the pickle's size its objects may unfold to, where shared objects count each time."""

_CHANGES = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_IMPORTS = ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID")
_ENCODE = "_codecs.encode"
_PLAIN_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")


class _Object:
    """Anything that a pickle builds from others."""

    __slots__ = ("depth", "parts", "size")

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts
        self.size = -1  # of its text, and one for each object in it, shared ones each time; 0 while it is measured
        self.depth = 0


class _Name(str):
    """The name of what has been imported."""


def check_pickle(content: bytes, name: str, is_allowed: Callable[[str], object]) -> None:
    """Refuse a pickle that imports names which are not allowed, or whose objects would take very long to walk through.

    Args:
        content: the pickle.
        name: name of the file in messages.
        is_allowed: says of a dotted name whether it may be imported.

    Raises:
        InputError: if it is refused, or broken.
    """
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{name}: refused, because it holds {len(content):,} bytes beside its tensors, expected at most "
            f"{MAX_BYTES:,}; ask for one from a source you trust"
        )
    try:
        objects, imported = _follow(content)
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(
            f"{name}: cannot be read as a pickle ({printable(first_line(error))}); it is broken, fetch it again"
        ) from None
    for found in imported:
        if not is_allowed(found):
            raise InputError(
                f"{name}: refused, because loading it would run {printable(found)}, which no checkpoint of nnU-Net or "
                "MISSU holds; do not use it, ask for one from a source you trust"
            )
    _check_nesting(objects, MAX_UNFOLDING * len(content), name)


def _follow(content: bytes) -> tuple[list[_Object], list[str]]:
    """The objects that the pickle builds, each holding its parts, and the names that it imports."""
    mark = object()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    objects: list[_Object] = []
    imported: list[str] = []
    for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        code = opcode.name
        if code == "MARK":
            stack.append(mark)
            continue
        if "PUT" in code or code == "MEMOIZE":
            index = len(memo) if code == "MEMOIZE" else int(argument or 0)
            if index > step:  # C's unpickler reserves memory for all below
                raise ValueError(f"memo {index} in step {step}")
            memo[index] = stack[-1]
            continue
        if "GET" in code:
            stack.append(memo[argument])
            continue
        taken = _take(stack, opcode, mark)
        if code in _IMPORTS:
            imported.append(_imported_name(code, argument, taken))
            if code != "INST":
                stack.append(_Name(imported[-1]))
                continue
        if code == "REDUCE" and taken[0] == _ENCODE and not _is_bytes(taken[1]):
            imported.append(f"{_ENCODE} into another encoding than latin1")  # some take for ever
        if code in _CHANGES:
            taken[0].parts += taken[1:]
            stack.append(taken[0])
        elif code == "DUP":
            stack += 2 * taken
        elif opcode.stack_after:
            if taken or opcode.stack_after[0].obtype in (list, dict, set):
                objects.append(_Object(taken))
                stack.append(objects[-1])
            else:
                stack.append(argument if code in _PLAIN_STRINGS else None)
    return objects, imported


def _take(stack: list[Any], opcode: pickletools.OpcodeInfo, mark: object) -> list[Any]:
    """What the opcode takes off the stack."""
    before = opcode.stack_before
    above = []
    if pickletools.markobject in before:
        while (item := stack.pop()) is not mark:
            above.append(item)
        before = before[: before.index(pickletools.markobject)]
    if len(stack) < len(before):
        raise ValueError(f"{opcode.name} finds nothing on the stack")
    split = len(stack) - len(before)
    taken, stack[split:] = stack[split:], []
    return taken + above[::-1]


def _imported_name(code: str, argument: Any, taken: list[Any]) -> str:
    if code == "STACK_GLOBAL":
        if not all(type(part) is str for part in taken):
            raise ValueError("the name to import is no text")
        return ".".join(taken)
    return ".".join(str(argument).split(" ", 1)) if code in ("GLOBAL", "INST") else f"{code} {argument}"


def _is_bytes(arguments: Any) -> bool:
    """Whether these are the arguments by which old pickles make bytes of a text."""
    return isinstance(arguments, _Object) and arguments.parts[1:] == ["latin1"]


def _check_nesting(objects: list[_Object], limit: int, name: str) -> None:
    """Refuse objects that contain themselves, lie deep in each other, or share parts so that walks take for ever."""
    is_tree = all(_measure(found) for found in objects)
    size, depth = (max((getattr(found, key) for found in objects), default=0) for key in ("size", "depth"))
    if not is_tree:
        reason = "one of its objects contains itself"
    elif depth > MAX_DEPTH:
        reason = f"its objects lie {depth} deep in each other, expected at most {MAX_DEPTH}"
    elif size > limit:
        reason = f"its objects would unfold to {size:.0e}, more than {MAX_UNFOLDING} times its size"
    else:
        return
    raise InputError(f"{name}: refused, because {reason}; do not use it, ask for one from a source you trust")


def _measure(top: _Object) -> bool:
    """Set the size and depth of an object and of all its parts, each once; whether none of them contains itself."""
    path = [top]
    while path:
        found = path[-1]
        inner = [part for part in found.parts if isinstance(part, _Object)]
        if found.size < 0:  # met for the first time
            found.size = 0
            if any(part.size == 0 for part in inner):  # on the path to here
                return False
            path += [part for part in inner if part.size < 0]
        else:
            path.pop()
            if found.size == 0:
                texts = sum(len(part) if isinstance(part, str) else 1 for part in found.parts)
                found.size = 1 + texts + sum(part.size for part in inner)
                found.depth = 1 + max((part.depth for part in inner), default=0)
    return True
