"""Independent pieces of work on several local processes (joblib) or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from targets.errors import ThumbnetError, ToolMissing

Job = TypeVar("Job")
Result = TypeVar("Result")
CONNECT_S = 20


def run(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int = 1,
    dask: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Result]:
    """The result of every job, in order.

    Args:
        work: a function of a module: processes import it.
        jobs: its arguments, which can be pickled.
        workers: local processes; 1 = this one.
        dask: address of a scheduler, like tcp://host:8786, whose workers see the same files.
        progress: called with 1 after every job.

    Raises:
        ToolMissing: joblib or dask is not installed.
        ThumbnetError: the scheduler does not answer.
    """
    if dask is None and (workers == 1 or len(jobs) < 2):
        found = []
        for job in jobs:
            found.append(work(job))
            progress(1)
        return found
    joblib = _joblib()
    if dask is not None:
        client = _client(dask)
        try:
            with joblib.parallel_config(backend="dask", wait_for_workers_timeout=CONNECT_S):
                return _all(joblib.Parallel(return_as="list"), joblib, work, jobs, progress)
        finally:
            client.close()
    pool = joblib.Parallel(n_jobs=workers, return_as="generator")
    return _all(pool, joblib, work, jobs, progress)


def _all(
    pool: Any,
    joblib: Any,
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    progress: Callable[[int], None],
) -> list[Result]:
    found = []
    for result in pool(joblib.delayed(work)(job) for job in jobs):
        found.append(result)
        progress(1)
    return found


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ToolMissing(
            "several processes need joblib", hint="pip install thumbnet[tune], or --jobs 1"
        ) from error
    return joblib


def _client(address: str) -> Any:
    """A connection that joblib's Dask backend finds by itself."""
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ToolMissing("--dask needs Dask", hint="pip install thumbnet[dask]") from error
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise ThumbnetError(
            f"--dask {address}: no scheduler answers ({error})",
            hint="start one with: dask scheduler, and workers with: dask worker ADDRESS",
        ) from error
