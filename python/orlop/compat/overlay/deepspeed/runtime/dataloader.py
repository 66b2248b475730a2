"""Loaders of data: of an engine's micro-batches, and one that never ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler
from torch.utils.data.distributed import DistributedSampler


class RepeatingLoader:
    """A loader that begins again when it has come to its end, for ever."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader
        self.data_iter = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.data_iter)
        except StopIteration:
            self.data_iter = iter(self.loader)
            return next(self.data_iter)


class DeepSpeedDataLoader:
    """Micro-batches of a dataset, this rank's part of them, shuffled.

    `num_local_io_workers` may be set until an iteration begins.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        pin_memory: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_local_io_workers: int | None = None,
        data_sampler: Sampler[Any] | None = None,
        data_parallel_world_size: int = 1,
        data_parallel_rank: int = 0,
        dataloader_drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.collate_fn = collate_fn
        self.num_local_io_workers = num_local_io_workers or 0
        self.drop_last = dataloader_drop_last
        if data_sampler is None and not isinstance(dataset, IterableDataset):
            data_sampler = DistributedSampler(dataset, data_parallel_world_size, data_parallel_rank)
        self.data_sampler = data_sampler
        self._iterator: Iterator[Any] | None = None

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_size=self.batch_size,
            sampler=self.data_sampler,
            num_workers=self.num_local_io_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            drop_last=self.drop_last,
        )

    def __len__(self) -> int:
        return len(self._loader())

    def __iter__(self) -> Iterator[Any]:
        self._iterator = iter(self._loader())
        return self._iterator

    def __next__(self) -> Any:
        if self._iterator is None:
            iter(self)
        assert self._iterator is not None
        return next(self._iterator)
