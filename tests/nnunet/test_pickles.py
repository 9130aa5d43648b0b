import pickle
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hostile import itself, nested, unfolding

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.pickles import MAX_BYTES, MAX_DEPTH, check_pickle


def imported(content: Any, protocol: int) -> set[str]:
    """The names that a pickle of this imports."""
    names: set[str] = set()
    check_pickle(pickle.dumps(content, protocol), "it", lambda name: names.add(name) or True)
    return names


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_name_is_found_in_every_protocol(protocol: int) -> None:
    content = [print, {"a": OrderedDict(b=np.float64(1.5)), "c": (1, 2**70, "text", b"bytes", None, True, 1.5)}, print]
    scalar = np.float64(0).__reduce__()[0]
    expected = {f"{scalar.__module__}.scalar", "numpy.dtype", "collections.OrderedDict"}
    found = imported(content, protocol)
    assert expected <= found
    assert {name.rpartition(".")[2] for name in found - expected} <= {"print", "encode"}
    assert any(name.endswith(".print") for name in found)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_forbidden_name_is_refused_and_named(protocol: int) -> None:
    with pytest.raises(InputError, match=r"^it: refused, because loading it would run \w+\.eval, which"):
        check_pickle(pickle.dumps({"a": eval}, protocol), "it", lambda name: not name.endswith("eval"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((itself(kind), "contains itself") for kind in (list, dict, OrderedDict)),
        *((unfolding(kind, 60), "would unfold to") for kind in (list, tuple, dict)),
        (nested(list, MAX_DEPTH + 1), f"lie {MAX_DEPTH + 2} deep"),
    ],
)
def test_endless_structures_are_refused_at_once(content: Any, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=reason):
        check_pickle(pickle.dumps({"a": content}, 2), "it", bool)
    assert time.process_time() - start < 1


def test_ordinary_sharing_of_objects_passes() -> None:
    part = [1, 2, "text"]
    check_pickle(pickle.dumps([part] * 50 + [nested(dict, MAX_DEPTH - 5)]), "it", bool)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"text",
        b"\x80\x02]a.",
        b"\x80\x02h\x05.",
        b"\x80\x02Nt.",
        b"\x80\x02K\x01R.",
        b"\x80\x02r\xff\xff\xff\xff.",  # C's unpickler would reserve 64 GiB for it
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x02NNb.",
        b"\x80\x04NN\x93.",
        pickle.dumps([1, 2])[:-1],
        b"I" + b"9" * 5000 + b"\n.",
        b"c\xff\n\xff\n.",
    ],
)
def test_a_broken_pickle_is_said_to_be_broken(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^it: cannot be read as a"):
        check_pickle(content, "it", bool)


def test_a_text_is_encoded_to_bytes_only() -> None:
    """Some encodings take the square of the text's length."""
    punycode = pickle.dumps({"a": b"\xff"}, 2).replace(b"\x06\x00\x00\x00latin1", b"\x08\x00\x00\x00punycode")
    with pytest.raises(InputError, match=r"would run _codecs\.encode into another encoding"):
        check_pickle(punycode, "it", lambda name: name == "_codecs.encode")


def test_a_pickle_larger_than_any_checkpoints_is_refused_unread() -> None:
    with pytest.raises(InputError, match="expected at most"):
        check_pickle(bytes(MAX_BYTES + 1), "it", bool)
