"""Work that shares nothing, in several processes at once."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

T = TypeVar("T")


def side_by_side(calls: Sequence[Callable[[], T]], jobs: int, done: Callable[[int, T], None]) -> list[T]:
    """Call all in fresh processes; what they return, in the order of the calls.

    Args:
        calls: can be pickled, and so can what they return.
        jobs: so many processes at most.
        done: told the number and result of each call as it ends, in this process.

    Raises:
        BaseException: the first that a call raised, or an interrupt; nobody waits then for what still runs.
    """
    pool = ProcessPoolExecutor(min(jobs, len(calls)), mp_context=get_context("spawn"), initializer=_begin)
    try:
        futures = {pool.submit(call): number for number, call in enumerate(calls)}
        for future in as_completed(futures):
            done(futures[future], future.result())
        return [future.result() for future in futures]
    except BaseException:
        for child in active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a worker: an interrupt ends it, where Python's handler would end only the call under way."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A parent that is killed cannot say so."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
