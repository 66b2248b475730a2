"""Memory of units that are evicted, kept for the next ones of the same size.

Of what it costs to fill a unit, page faults of memory that comes fresh from the system were three fifths, more than
copying its values and comparing their sums. Layers of a model are of one size, so that one has what the next needs.
"""

from __future__ import annotations

import torch
from torch import UntypedStorage

_KEPT_UNITS = 2  # at most, of the largest size


class UnitMemory:
    """Gives units their memory and takes it back; what it keeps is within the bytes that are planned for live units.

    A GPU's memory is torch's own pool already, and stays that.
    """

    def __init__(self) -> None:
        self._live_bytes = 0
        self._live_limit = self._most_spare = 0
        self._spares: list[UntypedStorage] = []

    def limit(self, live_bytes: int, largest_bytes: int) -> None:
        """What is planned for live units, and the size of the largest."""
        self._live_limit, self._most_spare = live_bytes, _KEPT_UNITS * largest_bytes

    @property
    def spare_bytes(self) -> int:
        """Kept for the next units."""
        return sum(spare.nbytes() for spare in self._spares)

    def give(self, storage: UntypedStorage, nbytes: int) -> None:
        """Makes an empty storage one of so many bytes, which are what they may be."""
        self._live_bytes += nbytes
        for place, spare in enumerate(self._spares):
            if spare.nbytes() == nbytes:
                storage._swap_data_ptr_(self._spares.pop(place))  # type: ignore[attr-defined]
                return
        while self._spares and self._live_bytes + self.spare_bytes > self._live_limit:
            self._spares.pop(0)
        storage.resize_(nbytes)

    def take_back(self, storage: UntypedStorage) -> None:
        """Makes a storage empty; whoever refers to it finds it so until it is given memory again."""
        nbytes = storage.nbytes()
        self._live_bytes -= nbytes
        if self._may_keep(storage):
            with torch.inference_mode(False):
                spare = UntypedStorage(0)  # type: ignore[no-untyped-call]
            spare._swap_data_ptr_(storage)  # type: ignore[attr-defined]
            self._spares.append(spare)
        else:
            storage.resize_(0)

    def _may_keep(self, storage: UntypedStorage) -> bool:
        if storage.device.type != "cpu" or not hasattr(storage, "_swap_data_ptr_"):
            return False
        spare = self.spare_bytes + storage.nbytes()
        return spare <= self._most_spare and self._live_bytes + spare <= self._live_limit
