"""The processes that a command starts."""

import os
import threading

import pytest

from missu_nnunet.errors import InputError
from missu_nnunet.parallel import default_workers, map_cases

cores = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("variable", "workers"), [(None, min(cores, 8)), ("1", 1), ("9999", cores)])
def test_as_many_as_nnunet_but_no_more_than_cores(
    variable: str | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is None:
        monkeypatch.delenv("nnUNet_def_n_proc")
    else:
        monkeypatch.setenv("nnUNet_def_n_proc", variable)
    assert default_workers() == workers


def test_no_process_is_left_to_the_end_of_the_interpreter() -> None:
    """Python 3.11 may print a traceback there, since it does not wait for the pool's thread in order."""
    before = threading.active_count()
    assert map_cases(abs, [-1, -2, -3], 2, "trying") == [1, 2, 3]
    assert threading.active_count() == before


@pytest.mark.parametrize("variable", ["", "0", "-1", "two", "1e3", "²", "9" * 5000])
def test_other_texts_than_numbers_of_processes_are_errors(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_def_n_proc", variable)
    with pytest.raises(InputError, match="nnUNet_def_n_proc"):
        default_workers()
