"""The five learning-rate schedules that a configuration's "scheduler" block names, for any optimizer of torch's.

A schedule has a position, `last_batch_iteration`: -1 when it is made, and one more with every `step()`, which writes
the rates of that position into the optimizer's groups. The engine steps it after every update that was applied.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .errors import ConfigError, InvalidArgumentError

Rates = float | Sequence[float]
"""One value for all groups, or one for each."""


class Schedule:
    """What the five have in common; `get_lr` is their own."""

    def __init__(self, optimizer: torch.optim.Optimizer, last_batch_iteration: int) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{type(self).__name__}: on a {type(optimizer).__name__}: it schedules a torch optimizer")
        self.optimizer = optimizer
        self.last_batch_iteration = last_batch_iteration
        self._last_lr: list[float] | None = None

    def get_lr(self) -> list[float]:
        """The learning rate of each group at the current position."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that the latest `step` wrote."""
        assert self._last_lr is not None, f"{type(self).__name__}: need to call step() first"
        return self._last_lr

    def step(self, last_batch_iteration: int | None = None) -> None:
        """Goes to the next position, or to one, and writes its rates into the groups."""
        self.last_batch_iteration = (
            self.last_batch_iteration + 1 if last_batch_iteration is None else last_batch_iteration
        )
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"last_batch_iteration": self.last_batch_iteration}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes the position; the groups' rates come with the next `step`, or from the optimizer's own state."""
        self.last_batch_iteration = state_dict["last_batch_iteration"]

    def _write(self) -> None:
        self._last_lr = self.get_lr()
        self._write_lr(self._last_lr)

    def _write_lr(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _per_group(self, name: str, value: Rates) -> list[float]:
        """A value for each group. Raises ValueError for another number of them."""
        count = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)):
            return [value] * count  # type: ignore[list-item]
        if len(value) != count:
            raise InvalidArgumentError(
                f"{type(self).__name__}: on {name}: {len(value)} values for {count} parameter groups: give one for each"
            )
        return list(value)


class LRRangeTest(Schedule):
    """Rates that grow from a least one, by a factor linear in the position, to find out what training bears.

    Leslie Smith, "A disciplined approach to neural network hyper-parameters" (2018).

    lr_range_test_min_lr: the first rate, or one for each group. lr_range_test_step_size: updates in which the factor
    grows by lr_range_test_step_rate. lr_range_test_staircase: only after each of these intervals.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr_range_test_min_lr: Rates = 1e-3,
        lr_range_test_step_size: int = 2000,
        lr_range_test_step_rate: float = 1.0,
        lr_range_test_staircase: bool = False,
        last_batch_iteration: int = -1,
    ) -> None:
        super().__init__(optimizer, last_batch_iteration)
        self.min_lr = self._per_group("lr_range_test_min_lr", lr_range_test_min_lr)
        self.step_size = lr_range_test_step_size
        self.step_rate = lr_range_test_step_rate
        self.staircase = lr_range_test_staircase
        if last_batch_iteration == -1:
            self._write_lr(self.min_lr)

    def get_lr(self) -> list[float]:
        intervals = float(self.last_batch_iteration + 1) / self.step_size
        if self.staircase:
            intervals = math.floor(intervals)
        return [least * (1 + self.step_rate * intervals) for least in self.min_lr]


class OneCycle(Schedule):
    """One cycle of rates up and down, with momentum down and up, then decay.

    Leslie Smith, "A disciplined approach to neural network hyper-parameters" (2018).

    cycle_min_lr, cycle_max_lr: the ends. cycle_first_step_size, cycle_second_step_size: updates on the way up and down
    (None: as many); cycle_first_stair_count, cycle_second_stair_count: in so many stairs (0: smoothly). After them the
    rate is cycle_min_lr / (1 + decay_lr_rate n), n counting intervals of decay_step_size updates (0: no decay).
    cycle_momentum: the first beta of optimizers that have betas goes the other way, between cycle_max_mom and
    cycle_min_mom, and grows by decay_mom_rate afterwards.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        cycle_min_lr: float,
        cycle_max_lr: float,
        decay_lr_rate: float = 0.0,
        cycle_first_step_size: int = 2000,
        cycle_second_step_size: int | None = None,
        cycle_first_stair_count: int = 0,
        cycle_second_stair_count: int | None = None,
        decay_step_size: int = 0,
        cycle_momentum: bool = True,
        cycle_min_mom: float = 0.8,
        cycle_max_mom: float = 0.9,
        decay_mom_rate: float = 0.0,
        last_batch_iteration: int = -1,
    ) -> None:
        super().__init__(optimizer, last_batch_iteration)
        self.min_lr = self._per_group("cycle_min_lr", cycle_min_lr)
        self.max_lr = self._per_group("cycle_max_lr", cycle_max_lr)
        self.decay_lr_rate = decay_lr_rate
        self.decay_mom_rate = decay_mom_rate
        self.decay_step_size = decay_step_size
        self.first_size = float(cycle_first_step_size)
        second_size = cycle_first_step_size if cycle_second_step_size is None else cycle_second_step_size
        self.total_size = self.first_size + float(second_size)
        self.first_stair_count = cycle_first_stair_count
        self.second_stair_count = (
            cycle_first_stair_count if cycle_second_stair_count is None else cycle_second_stair_count
        )
        self.min_moms = self._momenta(cycle_min_mom) if cycle_momentum else None
        self.max_moms = self._momenta(cycle_max_mom)
        if last_batch_iteration == -1:
            self._write_lr(self.min_lr)
            if self.min_moms is not None:
                self._write_mom(self.min_moms)

    def _momenta(self, momentum: float) -> list[tuple[float, float]]:
        """The betas of each group with the first replaced."""
        return [(momentum, group["betas"][1]) for group in self.optimizer.param_groups if "betas" in group]

    def get_lr(self) -> list[float]:
        if self.last_batch_iteration < self.total_size:
            part = self._part_of_cycle()
            return [low + (high - low) * part for low, high in zip(self.min_lr, self.max_lr, strict=True)]
        decay = 1 + self.decay_lr_rate * self._decay_intervals()
        return [low / decay for low in self.min_lr]

    def get_mom(self) -> list[tuple[float, float]] | None:
        """The betas of each group at the current position; None where they do not cycle."""
        if self.min_moms is None:
            return None
        if self.last_batch_iteration < self.total_size:
            part = self._part_of_cycle()
            return [
                (high - (high - low) * part, beta2)
                for (low, beta2), (high, _) in zip(self.min_moms, self.max_moms, strict=True)
            ]
        growth = 1 + self.decay_mom_rate * self._decay_intervals()
        return [(high * growth, beta2) for high, beta2 in self.max_moms]

    def _part_of_cycle(self) -> float:
        """0 at its ends, 1 at its top; the shape is that of torch's CyclicLR."""
        position = self.last_batch_iteration + 1
        cycle = math.floor(1 + position / self.total_size)
        within = 1.0 + position / self.total_size - cycle
        top = self.first_size / self.total_size
        if within <= top:
            return _stairs(within / top, self.first_stair_count)
        return _stairs((within - 1) / (top - 1), self.second_stair_count)

    def _decay_intervals(self) -> float:
        if self.decay_step_size == 0:
            return 0.0
        return (self.last_batch_iteration - self.total_size + 1) / self.decay_step_size

    def _write(self) -> None:
        super()._write()
        momenta = self.get_mom()
        if momenta is not None:
            self._write_mom(momenta)

    def _write_mom(self, momenta: Sequence[tuple[float, float]]) -> None:
        groups = [group for group in self.optimizer.param_groups if "betas" in group]
        for group, betas in zip(groups, momenta, strict=True):
            group["betas"] = betas


def _stairs(part: float, count: int) -> float:
    return math.floor(part * count) / count if count else part


WARMUP_TYPES = ("log", "linear")


class _WarmUp:
    """How much of the way a warm-up has come: from 0 to 1, linearly or as the logarithm does.

    It takes `count` updates, at least 2; 0 is no warm-up. An unknown kind is "log".
    """

    def __init__(self, count: int, kind: str) -> None:
        if count < 0:
            raise InvalidArgumentError(f"warm-up: on warmup_num_steps ({count}): must be at least 0 (0: none)")
        self.count = count if count == 0 else max(2, count)
        self.kind = kind if kind in WARMUP_TYPES else WARMUP_TYPES[0]

    def part(self, position: int) -> float:
        """At a position; 0 before the first."""
        if position >= self.count or self.count == 0:
            return 1.0
        if position < 0:
            return 0.0
        if self.kind == "linear":
            return position / self.count
        return 1 / math.log(self.count) * math.log(position + 1)


class WarmupLR(Schedule):
    """Rates that grow to their last value and stay there.

    warmup_min_lr, warmup_max_lr: the ends, each one value or one for each group; without the second, the groups' own
    rates. warmup_num_steps: updates between them; 0: none, the last value from the start. warmup_type: "log" or
    "linear".
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_min_lr: Rates = 0.0,
        warmup_max_lr: Rates | None = None,
        warmup_num_steps: int = 1000,
        warmup_type: str = "log",
        last_batch_iteration: int = -1,
    ) -> None:
        super().__init__(optimizer, last_batch_iteration)
        own = [float(group["lr"]) for group in optimizer.param_groups]
        self.min_lrs = self._per_group("warmup_min_lr", warmup_min_lr)
        self.max_lrs = own if warmup_max_lr is None else self._per_group("warmup_max_lr", warmup_max_lr)
        self._warm_up = _WarmUp(warmup_num_steps, warmup_type)
        if last_batch_iteration == -1:
            self._write_lr(self.get_lr())

    def get_lr(self) -> list[float]:
        part = self._part(self.last_batch_iteration)
        return [low + (high - low) * part for low, high in zip(self.min_lrs, self.max_lrs, strict=True)]

    def _part(self, position: int) -> float:
        return self._warm_up.part(position)


class WarmupDecayLR(WarmupLR):
    """WarmupLR, then linearly down to warmup_min_lr at update total_num_steps."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_num_steps: int,
        warmup_min_lr: Rates = 0.0,
        warmup_max_lr: Rates | None = 0.001,
        warmup_num_steps: int = 1000,
        warmup_type: str = "log",
        last_batch_iteration: int = -1,
    ) -> None:
        self.total_num_steps = total_num_steps
        super().__init__(optimizer, warmup_min_lr, warmup_max_lr, warmup_num_steps, warmup_type, last_batch_iteration)

    def _part(self, position: int) -> float:
        warm_up = self._warm_up.count
        if position < warm_up or position < 0:
            return super()._part(position)
        return max(0.0, (self.total_num_steps - position) / max(1.0, self.total_num_steps - warm_up))


class WarmupCosineLR(Schedule):
    """Parts of the groups' own rates: up from warmup_min_ratio to 1, then as half a cosine down to cos_min_ratio."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_num_steps: int,
        warmup_min_ratio: float = 0.0,
        warmup_num_steps: int = 1000,
        cos_min_ratio: float = 0.0001,
        warmup_type: str = "log",
        last_batch_iteration: int = -1,
    ) -> None:
        super().__init__(optimizer, last_batch_iteration)
        self.total_num_steps = total_num_steps
        self.warmup_min_ratio = warmup_min_ratio
        self.cos_min_ratio = cos_min_ratio
        self.org_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self._warm_up = _WarmUp(warmup_num_steps, warmup_type)
        if last_batch_iteration == -1:
            self._write_lr(self.get_lr())

    def get_lr(self) -> list[float]:
        ratio = self.get_lr_ratio()
        return [rate * ratio for rate in self.org_lrs]

    def get_lr_ratio(self) -> float:
        """Of the groups' own rates at the current position; before the first update of a warm-up 0."""
        position, warm_up = self.last_batch_iteration, self._warm_up.count
        if position < 0:
            return self._warm_up.part(position)
        if position < warm_up:
            return self.warmup_min_ratio + (1.0 - self.warmup_min_ratio) * self._warm_up.part(position)
        if position >= self.total_num_steps:
            return max(0.0, self.cos_min_ratio)
        gone = (position - warm_up + 1) / max(1, self.total_num_steps - warm_up)
        return max(0.0, self.cos_min_ratio + (1.0 - self.cos_min_ratio) * (1 + math.cos(math.pi * gone)) / 2)


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.__name__: schedule for schedule in (LRRangeTest, OneCycle, WarmupLR, WarmupDecayLR, WarmupCosineLR)
}


def schedule_maker(config: Any) -> Callable[[torch.optim.Optimizer], Any] | None:
    """What makes the schedule of a configuration's "scheduler" block, from an optimizer; None without one.

    Raises ConfigError for a name that is no schedule, and for parameters that it has not or that are missing.
    """
    name = config.get("scheduler.type")
    if name is None:
        return None
    params = {key: value for key, value in (config.get("scheduler.params") or {}).items() if value != "auto"}
    schedule = _class_named(name)
    _check_params(schedule, params)
    return lambda optimizer: schedule(optimizer, **params)


def _class_named(name: str) -> Any:
    found = SCHEDULES.get(name) or getattr(torch.optim.lr_scheduler, name, None)
    if not (isinstance(found, type) and issubclass(found, (Schedule, torch.optim.lr_scheduler.LRScheduler))):
        raise ConfigError(
            f'config: on "scheduler.type" ({name!r}): there is none of that name: write one of {", ".join(SCHEDULES)}, '
            "or a class of torch.optim.lr_scheduler"
        )
    return found


def _check_params(schedule: Any, params: Mapping[str, Any]) -> None:
    signature = inspect.signature(schedule)
    try:
        signature.bind(None, **params)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:])
        raise ConfigError(
            f'config: on "scheduler.params" of {schedule.__name__}: {error}: write of these: {known}'
        ) from None
