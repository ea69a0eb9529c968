"""Equal work at the same time is done once, and only so much of it at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class BusyError(Exception):
    """There are too many lookups, or another one of the same takes too long."""


class Flights(Generic[T]):
    """Lookups of this process. Who asks for what is being looked up waits for that one.

    Args:
        at_once: lookups at the same time; one more is refused rather than kept waiting.
    """

    def __init__(self, at_once: int) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[T]] = {}
        self._at_once = at_once

    def share(self, key: Hashable, do: Callable[[], T], seconds: float) -> T:
        """What ``do`` returns or raises, here or where the same key is being looked up.

        Args:
            seconds: to wait for the other one at most.

        Raises:
            BusyError: too many are looked up already, or the other one takes too long.
        """
        with self._lock:
            running = self._running.get(key)
            if running is None:
                if len(self._running) >= self._at_once:
                    raise BusyError
                own: Future[T] = Future()
                self._running[key] = own
        if running is not None:
            try:
                return running.result(seconds)
            except TimeoutError:
                raise BusyError from None
        try:
            result = do()
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(result)
            return result
        finally:
            with self._lock:
                del self._running[key]
