"""Reads that have begun, and can be given up; several that are begun together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["CancelledError", "Later", "Reading", "Started", "begin_held", "hold", "together"]

WAIT_S = 0.1


class Reading(Protocol):
    """A read that has begun: the blocking read is ``start(…).result()``. Any thread may call any method.

    Whoever waits in ``result`` while another thread cancels gets ``CancelledError`` at once; chunks that are being
    decoded then are decoded to their end, and dropped. Cancelling what is done already changes nothing.
    """

    def result(self) -> NDArray[Any]:
        """Wait for the voxels. Raises what the blocking read raises, or CancelledError."""

    def cancel(self) -> None: ...


class Started:
    """A read in threads of its own: ``future`` is TensorStore's, ``explain`` makes its errors ours."""

    def __init__(self, future: Any, explain: Callable[[BaseException], Exception]) -> None:
        self._future, self._explain = future, explain

    def result(self) -> NDArray[Any]:
        try:
            data: NDArray[Any] = self._waited()
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            raise self._explain(error) from error
        except BaseException:
            # asyncio's CancelledError, which no ``except Exception`` would see
            if self._future.cancelled():
                raise CancelledError from None
            raise
        return data

    def _waited(self) -> Any:
        # a cancel that comes just as the wait begins can go unheard: TensorStore's wait is begun anew now and then
        while True:
            try:
                return self._future.result(timeout=WAIT_S)
            except TimeoutError:
                if self._future.done():
                    return self._future.result()

    def wait(self, timeout_s: float) -> bool:
        """True: ``result`` will not wait, whatever it brings."""
        if self._future.done():
            return True
        try:
            self._future.result(timeout=timeout_s)
        except TimeoutError:
            return bool(self._future.done())
        except BaseException:  # for ``result`` to raise
            return True
        return True

    def cancel(self) -> None:
        self._future.cancel()


class Later:
    """A read that runs in the thread that asks for its result; it can be cancelled until then."""

    def __init__(self, read: Callable[[], NDArray[Any]]) -> None:
        self._read, self._cancelled = read, False

    def result(self) -> NDArray[Any]:
        if self._cancelled:
            raise CancelledError
        return self._read()

    def cancel(self) -> None:
        self._cancelled = True


class _Held(threading.local):
    """What this thread has begun, and its store has not heard of."""

    sends: dict[Callable[[list[Any]], None], list[Any]] | None = None


_held = _Held()


@contextmanager
def together() -> Iterator[None]:
    """Reads that this thread begins inside are told to their store at the end, all at once: a store that is far away has
    neighbours come in one request."""
    if _held.sends is not None:
        yield
        return
    _held.sends = {}
    try:
        yield
    finally:
        begin_held()
        _held.sends = None


def hold(send: Callable[[list[Any]], None], read: Any) -> bool:
    """``send`` a list with ``read`` when the thread has begun all it wants; False, and nothing is done, when it says
    nothing of the kind."""
    if _held.sends is None:
        return False
    _held.sends.setdefault(send, []).append(read)
    return True


def begin_held() -> None:
    """Now, as this thread is about to wait."""
    sends = _held.sends
    if sends:
        _held.sends = {}
        for send, reads in sends.items():
            send(reads)
