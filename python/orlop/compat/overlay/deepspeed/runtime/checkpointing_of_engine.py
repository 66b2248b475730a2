"""What DeepSpeed's engine offers on checkpoints and weights, over Orlop's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from orlop import NotFoundError
from orlop import _checkpoint as native
from orlop._saved_weights import SavedWeights
from torch import Tensor

from ..utils.logging import logger
from . import checkpoint_files as files
from . import client_state as client
from ._engine_facts import EngineFacts

CustomLoad = Callable[..., Any]  # custom_load_fn(src=state_dict, dst=module)


class CheckpointingEngine(EngineFacts):
    """Saves and loads as programs written for DeepSpeed expect it: arguments, results and names of files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.zero_optimization_stage() == 3 and self.setting("zero_optimization.elastic_checkpoint"):
            logger.warning(
                "elastic checkpointing is deprecated: a checkpoint loads without it under another configuration"
            )

    def save_checkpoint(
        self,
        save_dir: str | os.PathLike[str],
        tag: str | None = None,
        client_state: dict[str, Any] | None = None,
        save_latest: bool = True,
        exclude_frozen_parameters: bool = False,
    ) -> bool:
        """Orlop's checkpoint in `<save_dir>/<tag>`, with the files by DeepSpeed's names, and zero_to_fp32.py beside it.

        tag: "global_step<n>" by default, n counting skipped steps. client_state: any Python objects; those that are not
        JSON values or tensors are pickled. Returns and raises as orlop.Engine.save_checkpoint does.
        """
        self._check_usable()
        name = f"global_step{self.global_steps}" if tag is None else str(tag)
        directory = native.directory_of(save_dir, name, "save_checkpoint")
        self._check_tag(name)
        portable = client.portable(client_state)
        try:
            written = files.write_files(self, directory, client_state, exclude_frozen_parameters)
            files.write_script(directory.parent)
        except OSError as error:
            if not native.goes_on_after(self, error):
                raise
            return False
        return self._save_with(written, directory, portable, save_latest, exclude_frozen_parameters)

    def _save_with(
        self, written: list[Path], directory: Path, portable: dict[str, Any], save_latest: bool, exclude_frozen: bool
    ) -> bool:
        """Saves the checkpoint that files belong to; without it they are none of a checkpoint's."""
        saved = False
        try:
            saved = super().save_checkpoint(directory.parent, directory.name, portable, save_latest, exclude_frozen)
        finally:
            if not saved and not (directory / native.MANIFEST).exists():
                for path in written:
                    path.unlink(missing_ok=True)
                if directory.exists() and not any(directory.iterdir()):
                    directory.rmdir()
        return saved

    def _check_tag(self, tag: str) -> None:
        """As checkpoint.tag_validation says when ranks have different tags: a warning, an AssertionError, nothing."""
        mode = str(self.setting("checkpoint.tag_validation", "Warn")).upper()
        if mode == "IGNORE" or self.world_size == 1:
            return
        tags: list[Any] = [None] * self.world_size
        dist.all_gather_object(tags, tag)
        if len(set(tags)) == 1:
            return
        said = (
            f"save_checkpoint: on tag {tag!r} (rank {self.global_rank}): ranks have different tags: {sorted(set(tags))}"
        )
        assert mode != "FAIL", said
        logger.warning("%s", said)

    def load_checkpoint(
        self,
        load_dir: str | os.PathLike[str],
        tag: str | None = None,
        load_module_strict: bool = True,
        load_optimizer_states: bool = True,
        load_lr_scheduler_states: bool = True,
        load_module_only: bool = False,
        custom_load_fn: CustomLoad | None = None,
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Goes on from a checkpoint, as orlop.Engine.load_checkpoint does; under another stage or offload just so.

        custom_load_fn: called with `src`, the saved state of the module, and `dst`, the module with its parameters in
        memory, once what both have is loaded; what it changes becomes the masters', too. Counters are loaded in any
        case.

        Returns (path of the file with the model's states, client state); (None, None) without a file `latest`.
        """
        is_strict = load_module_strict and custom_load_fn is None
        try:
            path, saved = super().load_checkpoint(
                load_dir, tag, is_strict, load_optimizer_states, load_lr_scheduler_states, load_module_only
            )
        except NotFoundError as error:
            _refuse_deepspeeds(load_dir, tag, error)
            raise
        if path is None or saved is None:
            return None, None
        if load_module_only or not load_optimizer_states:
            self._take_counters(Path(path))
        self._begin_update()
        if custom_load_fn is not None:
            self._load_by(custom_load_fn, Path(path))
        name = files.model_states_name(self.zero_optimization_stage(), self.global_rank)
        return os.path.join(path, name), client.original(saved)

    def _take_counters(self, directory: Path) -> None:
        values = native.Saved(directory).values
        self.global_steps, self.skipped_steps = values["global_steps"], values["skipped_steps"]
        self.global_samples = values["global_samples"]
        self.micro_steps = self._earlier_micro_steps = self.global_steps * self.gradient_accumulation_steps()

    def _begin_update(self) -> None:
        """No micro-batch of the next update has been, and the counters may be others."""

    def _load_by(self, custom_load_fn: CustomLoad, directory: Path) -> None:
        with SavedWeights(directory) as weights:
            state = {saved.name: weights.read(saved, saved.dtype) for saved in weights.parameters}
            state.update(weights.buffers)
            state.update((name, state[first]) for name, first in weights.tied.items() if first in state)
        with self._all_gathered():
            custom_load_fn(src=state, dst=self.module)
            self._take_values(p for p in self._registered if not _is_same(p.tensor, state.get(p.name)))

    # ---- Weights ----

    def module_state_dict(  # type: ignore[override]
        self,
        destination: dict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
        exclude_frozen_parameters: bool = False,
    ) -> dict[str, Tensor]:
        """The module's state, whole, as copies on the CPU; shared parameters share memory."""
        found = super().module_state_dict(exclude_frozen_parameters)
        state = {} if destination is None else destination
        state.update((prefix + name, value) for name, value in found.items())
        return state

    def load_module_state_dict(
        self,
        checkpoint: Mapping[str, Any],
        strict: bool = True,
        custom_load_fn: CustomLoad | None = None,
        fetch_z3_params: bool = False,
    ) -> Any:
        """Sets parameters and buffers, and masters to their values.

        checkpoint: the module's state, or a dict that has it under "module", as in a file of model states. Parameters
        that are away are brought with or without `fetch_z3_params`.
        """
        state = checkpoint["module"] if isinstance(checkpoint.get("module"), Mapping) else checkpoint
        if custom_load_fn is None:
            return super().load_module_state_dict(state, strict=strict)
        with self._all_gathered():
            custom_load_fn(src=state, dst=self.module)
            self._take_values(self._registered)
        return None

    def _zero3_consolidated_16bit_state_dict(self, exclude_frozen_parameters: bool = False) -> dict[str, Tensor] | None:
        """The whole state on rank 0, None elsewhere. Raises ValueError unless the stage is 3."""
        if self.zero_optimization_stage() != 3:
            raise ValueError(
                f"_zero3_consolidated_16bit_state_dict: on stage {self.zero_optimization_stage()}: parameters are "
                "whole there; call module_state_dict()"
            )
        state = self.module_state_dict(exclude_frozen_parameters=exclude_frozen_parameters)
        return state if self.global_rank == 0 else None

    def save_16bit_model(
        self,
        save_dir: str | os.PathLike[str],
        save_filename: str = "pytorch_model.bin",
        exclude_frozen_parameters: bool = False,
    ) -> bool:
        """Writes the module's state, as it computes with it, as one torch file. Takes that much host memory in stage 3.

        Returns False, with a warning, in stage 3 without stage3_gather_16bit_weights_on_model_save.
        """
        if self.zero_optimization_stage() == 3 and not self.zero_gather_16bit_weights_on_model_save():
            logger.warning(
                "save_16bit_model: on %s: not written, because weights are not gathered on save: write "
                '"stage3_gather_16bit_weights_on_model_save": true into "zero_optimization", or save_checkpoint and '
                "consolidate with zero_to_fp32.py or `orlop export`",
                os.path.join(save_dir, save_filename),
            )
            return False
        state = self.module_state_dict(exclude_frozen_parameters=exclude_frozen_parameters)
        if self.global_rank == 0:
            Path(save_dir).mkdir(parents=True, exist_ok=True)
            files.write_torch_file(Path(save_dir, save_filename), state)
        return True

    def save_fp16_model(self, save_dir: str | os.PathLike[str], save_filename: str = "pytorch_model.bin") -> bool:
        """The same as `save_16bit_model`, by its old name."""
        return self.save_16bit_model(save_dir, save_filename)


def _refuse_deepspeeds(load_dir: str | os.PathLike[str], tag: str | None, error: NotFoundError) -> None:
    """Says whose checkpoint it is, if it has DeepSpeed's files alone."""
    directory = native.find(load_dir, tag)
    if directory is None or (directory / native.MANIFEST).exists() or not any(directory.glob("*_model_states.pt")):
        return
    raise NotFoundError(
        f"{error}; DeepSpeed itself has written this one: make weights of it with the zero_to_fp32.py beside it, and "
        "begin with them by `orlop import`"
    ) from None


def _is_same(tensor: Tensor, saved: Tensor | None) -> bool:
    return saved is not None and tensor.dtype == saved.dtype and torch.equal(tensor.detach().cpu(), saved)
