"""Chunks of an HDF5 dataset, decoded here: HDF5's own filters make room for whatever a chunk inflates to.

A chunk always decodes to its full shape, so a decoder can be told where to stop. Decoding here also needs no lock, of
which HDF5 has one for the whole process.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_HARMLESS_BYTES = 16 << 20
_WORST = {_DEFLATE: 1032, _LZF: 90}  # times a filter can grow its data


class ChunkDecoder:
    """Undoes the filters of one dataset. Raises ValueError for a chunk that holds more than it should.

    ``decodes``: all filters are deflate and shuffle, so that ``decode`` gives the values. Else HDF5 does, after ``check``; or,
    of filters that are ``unknown``, in a process of its own.
    """

    def __init__(self, dataset: Any) -> None:
        from h5py import h5t

        plist = dataset.id.get_create_plist()
        self._filters = [int(plist.get_filter(i)[0]) for i in range(plist.get_nfilters())]
        self._shape, self._dtype = tuple(dataset.chunks), np.dtype(dataset.dtype)
        self.chunk_bytes = math.prod(self._shape) * self._dtype.itemsize
        # other types are converted on the way: fewer bits than bytes, enumerations
        exact = self._dtype.kind in "iufc" and dataset.id.get_type() == h5t.py_create(self._dtype)
        self.decodes = exact and _DEFLATE in self._filters and set(self._filters) <= {_DEFLATE, _SHUFFLE}
        # szip, n-bit, scale-offset and those of plug-ins: what they take, nobody can tell before
        self.unknown = not set(self._filters) <= {_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF}
        self.guards = any(code in _WORST for code in self._filters) and not (self.decodes or self.unknown)

    def decode(self, data: bytes, skipped: int) -> NDArray[Any]:
        """The values of one chunk; bit n of ``skipped``: the n-th filter was left out when it was written."""
        plain = self._undone(data, skipped)
        if len(plain) != self.chunk_bytes:
            raise ValueError(f"it decodes to {len(plain)} bytes, not the {self.chunk_bytes} of a chunk")
        return np.frombuffer(plain, self._dtype).reshape(self._shape)

    def check(self, data: bytes, skipped: int) -> None:
        """Would HDF5 stay within the chunk? For filters that it undoes itself."""
        self._undone(data, skipped)

    def is_harmless(self, size: int) -> bool:
        """Can no chunk of so many encoded bytes grow beyond measure, whatever they are?"""
        growth = math.prod(_WORST.get(code, 1) for code in self._filters)
        return bool(size * growth <= self.chunk_bytes + _HARMLESS_BYTES)

    def _undone(self, data: bytes, skipped: int) -> bytes:
        import imagecodecs

        # libdeflate takes less than half of the time of zlib
        inflate = imagecodecs.deflate_decode if imagecodecs.DEFLATE.available else imagecodecs.zlib_decode
        most = self.chunk_bytes + 64  # checksums
        for number, code in reversed(list(enumerate(self._filters))):
            if skipped >> number & 1:
                continue
            if code == _DEFLATE:
                data = bytes(inflate(data, out=most))
            elif code == _LZF:
                data = bytes(imagecodecs.lzf_decode(data, out=most))
            elif code == _FLETCHER32:
                data = data[:-4]
            elif code == _SHUFFLE:
                data = self._unshuffled(data)
        return data

    def _unshuffled(self, data: bytes) -> bytes:
        """First bytes of all values lie together, then second bytes; what is over comes last, as it is."""
        size = self._dtype.itemsize
        count = len(data) // size
        if size == 1 or count < 2:
            return data
        values = np.empty((count, size), np.uint8)
        for place, row in enumerate(np.frombuffer(data, np.uint8, count * size).reshape(size, count)):
            values[:, place] = row  # eight times as fast as one transposed copy
        return values.tobytes() + data[count * size :]
