"""DeepSpeed's engine: Orlop's, with the names and habits that programs written for DeepSpeed rely on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from orlop import Config, InvalidArgumentError, Optimizer
from torch import Tensor, nn

from ..ops.adam import FusedAdam
from .base_optimizer import DeepSpeedOptimizer
from .bf16_optimizer import BF16_Optimizer
from .checkpointing_of_engine import CheckpointingEngine
from .dataloader import DeepSpeedDataLoader
from .fp16.fused_optimizer import FP16_Optimizer
from .fp16.unfused_optimizer import FP16_UnfusedOptimizer
from .zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from .zero.stage_1_and_2 import DeepSpeedZeroOptimizer


class DeepSpeedEngine(CheckpointingEngine):
    """A model that trains on the Orlop engine, used as DeepSpeed's is.

    A micro-batch is what lies between two calls of `step()`, however many backward passes that was. Every
    `gradient_accumulation_steps()`-th updates, unless the program says itself which do.
    """

    def __init__(self, module: nn.Module, config: Config, *rest: Any) -> None:
        super().__init__(module, config, *rest)
        self.raw_config: dict[str, Any] = {}
        self.local_rank = 0
        self._told_boundary: bool | None = None
        self._micro_steps_at_update = 0
        self._accumulation_steps = 0  # that the program has set
        self._batch_size = 0
        self._inside = ""  # the name of the context in which there may be no step
        self._tell_boundary()
        if isinstance(self._optimizer, DeepSpeedOptimizer):
            self._optimizer.bind(self)
        if not self._trains:
            self.optimizer = None
        elif type(self._optimizer) is DeepSpeedOptimizer:  # nothing to wrap it for
            self.optimizer = self._optimizer.optimizer

    @classmethod
    def optimizer_class(cls, config: Config, client: torch.optim.Optimizer | None) -> type[Optimizer]:
        """The class by ZeRO's stage, the precision and what it wraps."""
        stage = int(config.get("zero_optimization.stage", 0))
        if stage == 3:
            return DeepSpeedZeroOptimizer_Stage3
        is_bf16 = bool(config.get("bf16.enabled"))
        if stage == 1 and is_bf16 and config.get("data_types.grad_accum_dtype") == "fp32":
            return BF16_Optimizer
        if stage:
            return DeepSpeedZeroOptimizer
        if not is_bf16 and not config.get("fp16.enabled"):
            return DeepSpeedOptimizer
        return FP16_Optimizer if isinstance(client, FusedAdam) else FP16_UnfusedOptimizer

    @classmethod
    def scatters(cls, config: Config) -> bool:
        """With stage 3 parameters have their values only while modules use them."""
        return int(config.get("zero_optimization.stage", 0)) == 3

    # ---- Training ----

    def backward(self, loss: Tensor, retain_graph: bool = False, scale_wrt_gas: bool = True) -> Tensor:
        """A backward pass of the current micro-batch; the loss is divided by `gradient_accumulation_steps()`.

        Returns the divided loss. When the pass raises, the update's micro-batches begin again.
        """
        _check_loss("backward", loss)
        try:
            return super().backward(loss, retain_graph, scale_wrt_gas)
        except BaseException:
            self.micro_steps = self._micro_steps_at_update
            self._tell_boundary()
            raise

    def step(self, lr_kwargs: dict[str, Any] | None = None) -> None:
        """Ends a micro-batch; at a boundary updates the parameters and steps the lr scheduler."""
        self._check_may_step()
        done = self.micro_steps + 1
        super().step(lr_kwargs)
        self.micro_steps = done
        self._tell_boundary()

    def _update(self, lr_kwargs: dict[str, Any]) -> None:
        super()._update(lr_kwargs)
        self._micro_steps_at_update = self.micro_steps
        if isinstance(self._optimizer, DeepSpeedOptimizer):
            self._optimizer.overflow = not self._step_applied

    def _begin_update(self) -> None:
        self._micro_steps_at_update = self.micro_steps
        self._tell_boundary()

    def _check_may_step(self) -> None:
        assert self._inside != "no_sync", "It is illegal to call Engine.step() inside no_sync context manager"
        assert not self._inside, f"It is illegal to call Engine.step() inside {self._inside}, as inside no_sync"

    # ---- Which micro-batch updates ----

    def is_gradient_accumulation_boundary(self) -> bool:
        """Whether the `step()` that ends the current micro-batch updates."""
        if not self._counts:
            return True
        if self._told_boundary is not None:
            return self._told_boundary
        return (self.micro_steps + 1) % self.gradient_accumulation_steps() == 0

    def set_gradient_accumulation_boundary(self, is_boundary: bool | None) -> None:
        """Says whether micro-batches from here on end with an update, whatever the count is; None: as it says."""
        assert self._counts, (
            "set_gradient_accumulation_boundary() is not supported with managed_gradient_accumulation=False: every "
            "step() updates"
        )
        self._told_boundary = None if is_boundary is None else bool(is_boundary)
        self._tell_boundary()

    def _tell_boundary(self) -> None:
        if self._counts and self._trains:
            self._flow.tell_boundary(self.is_gradient_accumulation_boundary() and not self._inside)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients of the passes inside are summed, and exchanged with other ranks in the first one after it."""
        assert self.zero_optimization_stage() < 2, (
            "no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage "
            f"{self.zero_optimization_stage()}"
        )
        assert self._inside != "no_sync", "no_sync context manager reentry is unsupported"
        with self._without_step("no_sync"):
            yield

    @contextlib.contextmanager
    def coalesce_grad_reduction(self) -> Iterator[None]:
        """Gradients of the passes inside are exchanged with other ranks once, at the end."""
        assert self._counts, "coalesce_grad_reduction is not supported with managed_gradient_accumulation=False"
        assert not self._inside, f"coalesce_grad_reduction cannot be nested inside {self._inside}"
        if not self.zero_optimization():
            raise NotImplementedError("coalesce_grad_reduction requires ZeRO stage 1, 2 or 3: on stage 0")
        if isinstance(self.optimizer, BF16_Optimizer):
            raise NotImplementedError(
                "coalesce_grad_reduction: on BF16_Optimizer: not supported for this optimizer wrapper; use a ZeRO stage"
            )
        with self._without_step("coalesce_grad_reduction"):
            yield

    @contextlib.contextmanager
    def _without_step(self, name: str) -> Iterator[None]:
        self._inside = name
        self._tell_boundary()
        try:
            yield
        finally:
            self._inside = ""
            self._tell_boundary()

    # ---- Batches ----

    def set_train_batch_size(self, train_batch_size: int) -> None:
        """Sets how many samples an update uses, by another number of micro-batches.

        Where an engine began with one micro-batch per update, several are summed in the parameters' type.
        """
        per_pass = (self.train_micro_batch_size_per_gpu() or 1) * self.dp_world_size
        if train_batch_size % per_pass:
            raise InvalidArgumentError(
                f"set_train_batch_size: on {train_batch_size}: it is not a multiple of the micro-batch size x ranks = "
                f"{per_pass}"
            )
        self._batch_size, self._accumulation_steps = train_batch_size, train_batch_size // per_pass
        self._flow.accumulation_steps = self._accumulation_steps
        self._tell_boundary()

    def gradient_accumulation_steps(self) -> int:
        """Micro-batches per update."""
        return self._accumulation_steps or super().gradient_accumulation_steps()

    def train_batch_size(self) -> int | None:
        """Samples per update, over all ranks."""
        return self._batch_size or super().train_batch_size()

    def deepspeed_io(
        self,
        dataset: Any,
        batch_size: int | None = None,
        route: str = "train",
        pin_memory: bool = True,
        data_sampler: Any = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        num_local_io_workers: int | None = None,
    ) -> DeepSpeedDataLoader:
        """A loader of a dataset's micro-batches; `route` "train": shuffled and dealt out to the ranks."""
        return DeepSpeedDataLoader(
            dataset,
            batch_size or self.train_micro_batch_size_per_gpu() or 1,
            pin_memory,
            collate_fn,
            num_local_io_workers,
            data_sampler,
            self.dp_world_size,
            self.global_rank,
            bool(self.setting("dataloader_drop_last")),
        )

    # ---- Memory and compilation ----

    def empty_partition_cache(self) -> None:
        """Gives up the memory of parameters that live in the store and that no module is using."""
        self._units.evict_idle()

    def offload_states(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError."""
        raise NotImplementedError(
            "DeepSpeedEngine.offload_states is not provided by Orlop: states are where offload_optimizer and "
            "offload_param put them, all the time; to free a GPU's memory destroy() the engine after save_checkpoint()"
        )

    def reload_states(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError."""
        raise NotImplementedError(
            "DeepSpeedEngine.reload_states is not provided by Orlop: nothing was offloaded for a time"
        )

    def compile(
        self,
        backend: Any = "inductor",
        compile_kwargs: dict[str, Any] | None = None,
        schedule: Any = None,
        compiled_autograd_enabled: bool = False,
    ) -> None:
        """Lets torch compile the wrapped module's forward."""
        if schedule is not None or compiled_autograd_enabled:
            raise NotImplementedError(
                "DeepSpeedEngine.compile: on schedule and compiled_autograd_enabled: DeepCompile and compiled autograd "
                "are not provided by Orlop; leave them out"
            )
        self.module.compile(backend=backend, **(compile_kwargs or {}))

    @property
    def is_compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self.module._compiled_call_impl is not None

    # ---- The loss scale ----

    def scale(self, loss: Tensor) -> Tensor:
        """The loss as `backward` hands it to autograd, for a program that calls its `backward()` itself."""
        _check_loss("scale", loss)
        return super().scale(loss)


def _check_loss(what: str, loss: Any) -> None:
    assert isinstance(loss, Tensor) and loss.numel() == 1, (
        f"{what}: loss must be a scalar tensor; with gradients of your own call backward() of the output"
    )
