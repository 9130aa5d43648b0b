"""Applies a function to many cases, on several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from missu_nnunet.errors import InputError
from missu_nnunet.terminal import Words, progress_bar

Case = TypeVar("Case")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processes to use by default: as many as nnU-Net takes, but no more than there are cores.

    Raises:
        InputError: if nnU-Net's variable ``nnUNet_def_n_proc`` is not a number of processes.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("nnUNet_def_n_proc", "8")
    if not re.fullmatch("[1-9][0-9]{0,3}", wanted):
        raise InputError(f"nnUNet_def_n_proc is '{wanted}', expected a number of processes from 1 to 9999")
    return min(cores, int(wanted))


def map_cases(
    function: Callable[[Case], Result], cases: Sequence[Case], workers: int, description: str
) -> list[Result | InputError]:
    """Apply a function to every case, and return the results in the order of the cases.

    Args:
        function: the function; unless ``workers`` is 1 it must be picklable, such as a partial of a module's function.
        cases: arguments of the function, which must then be picklable, too.
        workers: number of processes; 1 runs in this process.
        description: text beside the progress bar.

    Returns:
        For each case the function's result, or the ``InputError`` that it raised.

    Raises:
        InputError: if a process was killed, most likely because memory ran out.
    """
    results: dict[int, Result | InputError] = {}
    with progress_bar(
        Words("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        for index, result in progress.track(
            _completed(function, cases, workers), total=len(cases), description=description
        ):
            results[index] = result
    return [results[index] for index in range(len(cases))]


def _completed(
    function: Callable[[Case], Result], cases: Sequence[Case], workers: int
) -> Iterator[tuple[int, Result | InputError]]:
    if workers == 1 or len(cases) < 2:
        for index, case in enumerate(cases):
            try:
                yield index, function(case)
            except InputError as error:
                yield index, error
        return
    # spawn: a fork of a process with threads (rich, SimpleITK) may deadlock.
    with ProcessPoolExecutor(min(workers, len(cases)), multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[Result], int] = {pool.submit(function, case): i for i, case in enumerate(cases)}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except InputError as error:
                    yield futures[future], error
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, most likely for want of memory: run again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
