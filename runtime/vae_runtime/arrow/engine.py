"""Where the work runs: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from ..errors import FileError, LimitError

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 2  # tasks in flight for each thread: one runs while the next waits
_FEWEST = 16
_PATIENCE_S = 10
_ASK_S = 1.0


@contextlib.contextmanager
def threads(n: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """A `map` over n threads that keeps the order and holds but a few items at a time."""
    with ThreadPoolExecutor(n) as pool:

        def over(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            running: deque[Future[R]] = deque()
            try:
                for item in items:
                    running.append(pool.submit(function, item))
                    if len(running) > _AHEAD * n:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

        yield over


@contextlib.contextmanager
def local_cluster(workers: int, threads_each: int = 1, **options: Any) -> Iterator[Any]:
    """A client of a new cluster on this machine, which listens on 127.0.0.1 alone.

    Args:
        workers: processes; one that dies is started again.
        threads_each: threads in each.
        options: further ones of `distributed.LocalCluster`.

    Raises:
        FileError: it did not start.
    """
    dask = _distributed()
    with contextlib.ExitStack() as stack:
        try:
            cluster = dask.LocalCluster(
                n_workers=workers,
                threads_per_worker=threads_each,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would want port 8787, which may be taken
                # A worker's death is told by what became of its part, not by pages of log.
                silence_logs=logging.CRITICAL,
                **options,
            )
            stack.callback(_close, cluster)
            client = stack.enter_context(dask.Client(cluster, set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise FileError(f"the workers did not start: {error}. Try fewer --workers.") from error
        yield client


def _close(cluster: Any) -> None:
    """End a cluster's processes.

    A worker that died and is being started again just then has no process to wait for, which Dask
    asserts it has. It was told to end before; what the job made of its death is not to be hidden.
    """
    with contextlib.suppress(AssertionError):
        cluster.close()


@contextlib.contextmanager
def remote_cluster(address: str) -> Iterator[Any]:
    """A client of the cluster whose scheduler listens at `address`, such as `tcp://host:8786`.

    Raises:
        FileError: nobody answers there.
    """
    try:
        client = _distributed().Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FileError(
            f"{address}: no Dask scheduler answers within {_PATIENCE_S} s. "
            "Start one: dask scheduler"
        ) from error
    with client:
        yield client


def on_dask(client: Any, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of a function over items, each a task, in the order in which they are finished.

    Some tasks for each thread of the cluster are in flight at a time, so that neither the client
    nor the scheduler holds a list of millions. What a dead worker had is done by another one.

    Raises:
        LimitError: a task's worker died again and again.
    """
    dask = _distributed()
    waiting = iter(items)
    finished = dask.as_completed(loop=client.loop)
    room, asked = 0, float("-inf")
    try:
        while True:
            if time.monotonic() - asked > _ASK_S:  # a question to the scheduler; workers may join
                room, asked = _room(client), time.monotonic()
            # Many in one message: a message for each task is what the scheduler is slow at.
            if finished.count() <= room // 2:
                more = list(islice(waiting, room - finished.count()))
                finished.update(client.map(function, more, pure=False) if more else [])
            if not finished.count():
                return
            for future in finished.next_batch(block=True):
                yield future.result()
    except dask.KilledWorker as error:
        raise LimitError(
            f"a worker died at this part again and again ({error.last_worker.address}): it may be "
            "out of memory. What is finished is kept: mend that, and use --resume."
        ) from error


def _room(client: Any) -> int:
    """Tasks that may be in flight."""
    threads: dict[str, int] = client.nthreads()
    return max(_FEWEST, 2 * _AHEAD * sum(threads.values()))


def _distributed() -> Any:
    """The package; imported where a cluster is asked for, since it takes a second."""
    import distributed

    return distributed
