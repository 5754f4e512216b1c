"""Reads that have begun, and can be given up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["CancelledError", "Later", "Reading", "Started"]

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
