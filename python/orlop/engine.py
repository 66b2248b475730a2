"""The engine around a model: what `initialize` returns, used as DeepSpeed's is.

loss = engine(inputs)      forward of the wrapped module
engine.backward(loss)      a micro-batch; the engine takes the gradients
engine.step()              an update, at every gradient_accumulation_steps-th micro-batch
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import _checkpoint, _log, checkpointing
from ._changes import Changes
from ._enums import DType, Plane
from ._hooks import GradientFlow
from ._native import NativeEngine
from ._out_of_memory import explained
from ._parameters import Parameter, check_layout, half_precision, is_frozen, layout_of
from ._timeline import Timeline
from ._torch_update import TorchUpdate
from ._units import Units, is_in_backward
from .config import Config
from .errors import InvalidArgumentError, OrlopError, OutOfOrderError, UnsupportedError
from .optimizer import Optimizer
from .report import Stats, StepReport

_PLANES = {
    "param": Plane.PARAM,
    "master": Plane.MASTER,
    "exp_avg": Plane.EXP_AVG,
    "exp_avg_sq": Plane.EXP_AVG_SQ,
    "grad": Plane.GRAD,
}

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine(nn.Module):
    """A model whose optimizer states, and in time whose parameters, live where there is room.

    Attributes it does not have are the wrapped `module`'s. Use it as a context manager, or call `close()`: then the
    store on disk is removed and the model's parameters are ordinary tensors with their final values.
    """

    module: nn.Module

    def __init__(
        self,
        module: nn.Module,
        config: Config,
        native: NativeEngine,
        parameters: list[Parameter],
        optimizer: Optimizer,
        flow: GradientFlow,
        units: Units,
        lr_scheduler: Any = None,
        torch_update: TorchUpdate | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.optimizer: Any = optimizer
        """For classes of engines that have another form of it: what it shares its groups with, or None."""
        self._optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.training_dataloader: Any = None
        self.global_steps = 0
        """Updates due so far, those skipped included."""
        self.skipped_steps = 0
        self.micro_steps = 0
        """Micro-batches whose `step()` has been called."""
        self.global_samples = 0
        """Samples of the updates due so far, where the configuration says how many a micro-batch has."""
        self.last_report: StepReport | None = None
        self._config = config
        self._native = native
        self._flow = flow
        self._registered = parameters
        self._units = units
        self._torch_update = torch_update
        self._by_name = {parameter.name: parameter for parameter in parameters}
        self._by_id = {id(parameter.tensor): parameter for parameter in parameters}
        self._layout = layout_of(module)
        self._step_applied = False
        self._trains = not all(parameter.is_frozen for parameter in parameters)
        self._counts = bool(config.get("managed_gradient_accumulation", True))  # else each step() updates
        self._earlier_micro_steps = 0  # those of updates so far
        self._forwards = 0  # under way
        self._unexpected_uses = 0  # that were said
        self._save: _checkpoint.Save | None = None
        self._timeline = Timeline(config)
        self._casts_inputs = self.fp16_enabled() and bool(config.get("fp16.auto_cast"))
        self._autocast_dtype = torch.bfloat16 if config.get("torch_autocast.enabled") else None
        self.train(module.training)
        _engines.add(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            module = self.__dict__.get("_modules", {}).get("module")
            if module is None or not hasattr(module, name):
                raise
            return getattr(module, name)

    @classmethod
    def optimizer_class(cls, config: Config, client: torch.optim.Optimizer | None) -> type[Optimizer]:
        """The class of the engine's optimizer, for classes of engines that have another. `client`: the program's."""
        return Optimizer

    @classmethod
    def scatters(cls, config: Config) -> bool:
        """Whether parameters look empty between their uses wherever their values are, for classes of engines that do.

        That is parameters larger than stage3_param_persistence_threshold, as it is of those in the store anyway. Every
        parameter then has the attributes ds_id, ds_shape, ds_numel, ds_status, ds_tensor and ds_persist.
        """
        return False

    # ---- Training ----

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped module's forward; with fp16.auto_cast floating-point inputs become fp16.

        With torch_autocast it runs inside torch.autocast, whatever autocast the program is in.
        """
        if self._casts_inputs:
            args, kwargs = half_precision(args), half_precision(kwargs)
        self._timeline.note_inputs(self.module, args, kwargs)
        self._forwards += 1
        try:
            with explained(self, "forward"), self._timeline.phase("forward"), self._forward_pass(), self._autocast():
                return self.module(*args, **kwargs)
        finally:
            self._forwards -= 1

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._autocast_dtype)

    @property
    def is_in_pass(self) -> bool:
        """Whether a forward or backward pass of the engine is under way."""
        return self._forwards > 0 or self._flow.in_backward

    @contextlib.contextmanager
    def _forward_pass(self) -> Iterator[None]:
        if not self._units or is_in_backward():
            yield
            return
        self._check_memory("forward")
        self._units.begin_forward()
        try:
            yield
        finally:
            self._units.end_forward()

    def backward(self, loss: Tensor, retain_graph: bool = False, scale_wrt_gas: bool = True) -> Tensor:
        """Computes the gradients of one micro-batch's loss and gives them to the engine.

        The loss is divided by `gradient_accumulation_steps()` unless `scale_wrt_gas` is false, so that an update uses
        the mean over its micro-batches; the divided loss is returned. In fp16 its gradients are scaled by
        `loss_scale()` on their way, which the update takes out again. When the pass raises, what has accumulated since
        the last update is forgotten: begin that update's micro-batches again.
        """
        if not isinstance(loss, Tensor):
            raise InvalidArgumentError(f"backward: on a {type(loss).__name__}: the loss must be a tensor")
        self._check_usable()
        loss = self._part_of_update(loss) if scale_wrt_gas else loss
        self._timeline.note_loss(loss)
        scaled = self._times_loss_scale(loss)
        with explained(self, "backward"), self._timeline.phase("backward"), self._backward_pass():
            scaled.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]
        return loss

    def scale(self, loss: Tensor) -> Tensor:
        """The loss as `backward` hands it to autograd, for a program that calls its `backward()` itself.

        It is divided by `gradient_accumulation_steps()` and multiplied by `loss_scale()`. The next `step()` ends this
        micro-batch, however many backward passes it had.
        """
        self._check_usable()
        self._flow.is_scaled = True
        loss = self._part_of_update(loss)
        self._timeline.note_loss(loss)
        return self._times_loss_scale(loss)

    def _part_of_update(self, loss: Tensor) -> Tensor:
        return loss / self.gradient_accumulation_steps() if self.gradient_accumulation_steps() > 1 else loss

    def _times_loss_scale(self, loss: Tensor) -> Tensor:
        scale = self._flow.loss_scale
        return loss if scale == 1 else loss.float() * scale

    @contextlib.contextmanager
    def _backward_pass(self) -> Iterator[None]:
        flow = self._flow
        flow.in_backward = True
        try:
            yield
            flow.end_backward()
        except BaseException:
            with contextlib.suppress(Exception):  # the error under way says more
                flow.discard()
            raise
        finally:
            flow.in_backward = False
            self._units.end_backward()

    def step(self, lr_kwargs: dict[str, Any] | None = None) -> None:
        """Ends a micro-batch; after the last of an update's, updates the parameters and steps the lr scheduler.

        Ctrl-C is answered within a fraction of a second: the step is cancelled, the engine closed, its store removed.
        """
        self._check_usable()
        if not self._trains:
            raise OutOfOrderError(
                "step: the engine has no optimizer: give initialize one, or a configuration that names one"
            )
        flow = self._flow
        if flow.taken:  # loss.backward() was called instead of engine.backward(loss): the same with one micro-batch
            flow.end_backward()
        if not flow.backwards:
            raise OutOfOrderError("step: no micro-batch since the last one: call engine.backward(loss) first")
        self.micro_steps = self._micro_steps_done()
        self._step_applied = False
        if flow.is_update_due or not self._counts:
            with self._timeline.phase("update"):
                self._update(lr_kwargs or {})
            self._timeline.end_update(self)

    def _update(self, lr_kwargs: dict[str, Any]) -> None:
        self._units.end_backward()  # also of a loss.backward() that was not the engine's
        self._check_parameters()
        self._finish_save(wait=self._torch_update is not None)  # torch writes to parameters' memory itself
        self._optimizer.send_groups()
        if self.device.type == "cuda":  # what was queued before still reads the parameters as they were
            torch.cuda.current_stream(self.device).synchronize()
        try:
            self._native.step_begin()
            report = StepReport.of(self._native.step_wait())
            if self._torch_update is not None and not report.skipped:
                self._torch_update.apply(report)
        except KeyboardInterrupt:
            self._native.cancel()
            with contextlib.suppress(OrlopError):  # what was being saved is cancelled, too, unless it was complete
                self._finish_save(wait=True)
            self.close()
            _log.logger.warning(
                "step %d: interrupted: some parameters are updated, others not; go on from values saved before",
                self.global_steps + 1,
            )
            raise
        self._earlier_micro_steps = self.micro_steps
        self.global_samples += self._samples_of_update()
        self._flow.start_over()
        self._flow.loss_scale = self._native.loss_scale()
        self._note_unexpected_uses()
        self.last_report = report
        self.global_steps += 1
        if report.skipped:
            self.skipped_steps += 1
            return
        self._step_applied = True
        self._optimizer.note_update()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step(**lr_kwargs)

    def _samples_of_update(self) -> int:
        if self._counts:
            return self.train_batch_size() or 0
        return self._flow.backwards * (self.train_micro_batch_size_per_gpu() or 0)

    def _note_unexpected_uses(self) -> None:
        """Says in the debug log which modules were used in another order than before."""
        if not self._units or not _log.logger.isEnabledFor(logging.DEBUG):
            return
        count = self._native.stats().unexpected_uses
        if count > self._unexpected_uses:
            _log.logger.debug("step %d: unexpected uses so far: %s", self.global_steps + 1, self.unexpected_uses())
        self._unexpected_uses = count

    def _check_parameters(self) -> None:
        check_layout(self.module, self._layout)
        self._check_memory("step")
        for parameter in self._registered:
            if parameter.tensor.requires_grad and not parameter.required_grad:
                raise UnsupportedError(
                    f"step: on {parameter.name}: it was frozen when the engine was initialized and has no optimizer "
                    "state; initialize again to train it"
                )

    def _check_memory(self, what: str) -> None:
        for parameter in self._registered:
            if self._units.has(parameter):
                is_replaced = self._units.is_replaced(parameter)
            else:
                is_replaced = parameter.tensor.data_ptr() != parameter.address
            if is_replaced:
                raise OutOfOrderError(
                    f"{what}: on {parameter.name}: its memory was replaced since initialize (by model.to(), .half() or "
                    "p.data = ...), so the engine's values are not the model's: convert or move the model before"
                )

    def _check_usable(self) -> None:
        self._native.check_usable()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the micro-batches since the last update. After `step()` there are none."""
        self._optimizer.zero_grad(set_to_none)
        super().zero_grad(set_to_none)

    # ---- Where training is ----

    def _micro_steps_done(self) -> int:
        """Micro-batches whose backward pass has ended."""
        return self._earlier_micro_steps + self._flow.backwards

    def set_gradient_accumulation_boundary(self, is_boundary: bool | None) -> None:
        """Says whether micro-batches from here on are the last before an update; None: as they are counted.

        Call it before their backward pass. An update then uses however many micro-batches there were.
        """
        if not self._counts:
            raise OutOfOrderError(
                'set_gradient_accumulation_boundary: "managed_gradient_accumulation" is false: every engine.step() '
                "updates"
            )
        self._flow.tell_boundary(is_boundary)

    def is_gradient_accumulation_boundary(self) -> bool:
        """Whether the current micro-batch, from its forward to its `step()`, is the last before an update."""
        flow = self._flow
        if not self._counts:
            return True
        if self._micro_steps_done() > self.micro_steps:  # between a backward and its step
            return flow.is_update_due
        if flow.told is not None:
            return flow.told
        return flow.backwards == self.gradient_accumulation_steps() - 1

    def was_step_applied(self) -> bool:
        """Whether the latest `step()` changed the parameters."""
        return self._step_applied

    def gradient_accumulation_steps(self) -> int:
        """Micro-batches per update."""
        return int(self._config.get("gradient_accumulation_steps", 1))

    def train_micro_batch_size_per_gpu(self) -> int | None:
        """Samples per micro-batch; None when the configuration does not say."""
        return cast("int | None", self._config.get("train_micro_batch_size_per_gpu"))

    def train_batch_size(self) -> int | None:
        """Samples per update, over all ranks; None when the configuration does not say."""
        return cast("int | None", self._config.get("train_batch_size"))

    def zero_optimization_stage(self) -> int:
        """zero_optimization.stage of the configuration."""
        return int(self._config.get("zero_optimization.stage", 0))

    def fp16_enabled(self) -> bool:
        """Whether the model computes in fp16."""
        return bool(self._config.get("fp16.enabled"))

    def bfloat16_enabled(self) -> bool:
        """Whether the model computes in bf16."""
        return bool(self._config.get("bf16.enabled"))

    def loss_scale(self) -> float:
        """What `backward` multiplies losses with: 1 unless fp16 is enabled."""
        return self._flow.loss_scale

    def gradient_clipping(self) -> float:
        """The largest global gradient norm an update uses; 0: any."""
        return float(self._config.get("gradient_clipping", 0.0))

    def get_lr(self) -> list[float]:
        """Each group's learning rate."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def get_global_grad_norm(self) -> float | None:
        """L2 norm over all gradients of the latest update, before clipping; None before the first."""
        return None if self.last_report is None else self.last_report.grad_norm

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._registered[0].tensor.device

    @property
    def config(self) -> dict[str, Any]:
        """The configuration with every default filled in."""
        return self._config.values

    # ---- Parameters and states ----

    def module_state_dict(self, exclude_frozen_parameters: bool = False) -> dict[str, Tensor]:
        """The module's state: full tensors on the CPU, their own copies. Shared parameters share memory here, too.

        exclude_frozen_parameters: leave out parameters that require no gradient.
        """
        state = self.module.state_dict(keep_vars=True)
        if exclude_frozen_parameters:
            state = {name: tensor for name, tensor in state.items() if not is_frozen(tensor)}
        wanted = {id(tensor) for tensor in state.values()}
        copies = {id(p.tensor): self._value_of(p) for p in self._in_units() if id(p.tensor) in wanted}
        for tensor in state.values():
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().cpu().clone()
        return {name: copies[id(tensor)] for name, tensor in state.items()}

    def _in_units(self) -> list[Parameter]:
        return [parameter for parameter in self._registered if self._units.has(parameter)]

    def _value_of(self, parameter: Parameter) -> Tensor:
        return parameter.read(self._native, Plane.PARAM, parameter.tensor.dtype)

    @contextlib.contextmanager
    def _gathered(self, tensors: list[Tensor], keeps_changes: bool) -> Iterator[None]:
        """Has those of these parameters in the model that are the engine's."""
        found = [self._by_id[id(tensor)] for tensor in tensors if id(tensor) in self._by_id]
        checks_changes = not keeps_changes and bool(self._config.get("zero_optimization.enable_sanity_checks"))
        with self._units.gathered(tensors):
            if not keeps_changes and not checks_changes:
                yield
                return
            self._finish_save(wait=True)  # it reads the memory that may be written here
            stored = [parameter for parameter in found if self._units.is_stored(parameter)]
            in_memory = [parameter for parameter in found if not self._units.is_stored(parameter)]
            changes = Changes(self._native, in_memory, stored)
            try:
                yield
            finally:
                changes.keep() if keeps_changes else changes.refuse()

    def load_module_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any:
        """Sets parameters and buffers. Masters become the parameters' values; moments stay. Returns torch's report."""
        with self._all_gathered():
            report = self.module.load_state_dict(state_dict, strict=strict)
            self._take_values(self._registered)
        return report

    @contextlib.contextmanager
    def _all_gathered(self) -> Iterator[None]:
        """Has every parameter in the model, to be given other values."""
        self._check_usable()
        self._finish_save(wait=True)  # it reads the memory that is written here
        with self._units.gathered(parameter.tensor for parameter in self._in_units()):
            yield

    def _take_values(self, parameters: Iterable[Parameter]) -> None:
        """The engine's values become those that the model has; masters, too."""
        for parameter in parameters:
            parameter.write(self._native, Plane.PARAM, parameter.tensor)

    def read_plane(self, parameter: str | nn.Parameter, plane: str) -> Tensor:
        """One array of a parameter's state, wherever it lives, as an fp32 CPU tensor of the parameter's shape.

        `plane` is "param", "master" (the fp32 value), "exp_avg" (Adam, Lion), "exp_avg_sq" (Adam; Adagrad's sum of
        squares), or "grad" (accumulated since the last update). Raises InvalidArgumentError for an unknown name and for
        planes that the optimizer or a frozen parameter does not have.
        """
        found = self._find(parameter)
        values = found.read(self._native, _plane(plane), torch.float32)
        return values / self._flow.loss_scale if plane == "grad" and self._flow.loss_scale != 1 else values

    def write_plane(self, parameter: str | nn.Parameter, plane: str, values: Tensor) -> None:
        """Sets one array of a parameter's state; `plane` as for `read_plane`. Setting "master" sets the parameter.

        "grad", between a backward pass and its `step()`, is what the step uses. With one micro-batch per update it is
        kept in the parameter's type.
        """
        found = self._find(parameter)
        if values.shape != found.shape:
            raise InvalidArgumentError(
                f"write_plane: on {found.name} {plane}: values of shape {tuple(values.shape)}, but the parameter's is "
                f"{tuple(found.shape)}"
            )
        if plane == "grad":
            self._write_grad(found, values)
            return
        found.write(self._native, _plane(plane), values)
        self._units.evict_idle()

    def _write_grad(self, parameter: Parameter, values: Tensor) -> None:
        scaled = values.detach().float() * self._flow.loss_scale
        if parameter.dtype is DType.F16 and self.gradient_accumulation_steps() == 1:
            most = scaled.abs().max().item()
            if most > torch.finfo(torch.float16).max:
                raise InvalidArgumentError(
                    f"write_plane: on {parameter.name} grad: {most:g} with the loss scale ({self._flow.loss_scale:g}) "
                    "is more than fp16 can hold, and the step would be skipped: lower fp16.initial_scale_power"
                )
        parameter.write(self._native, Plane.GRAD, scaled)

    def _find(self, parameter: str | nn.Parameter) -> Parameter:
        found = self._by_name.get(parameter) if isinstance(parameter, str) else self._by_id.get(id(parameter))
        if found is not None:
            return found
        name = parameter if isinstance(parameter, str) else f"a tensor of shape {tuple(parameter.shape)}"
        raise InvalidArgumentError(f"parameter: on {name}: the engine has none like it")

    def digest(self) -> int:
        """A hash over all parameters and states, the same wherever they live. Reads the whole store."""
        return self._native.digest()

    # ---- Checkpoints ----

    def save_checkpoint(
        self,
        save_dir: str | os.PathLike[str],
        tag: str | None = None,
        client_state: dict[str, Any] | None = None,
        save_latest: bool = True,
        exclude_frozen_parameters: bool = False,
    ) -> bool:
        """Saves everything that training goes on from into `<save_dir>/<tag>`, by default "global_step<n>".

        That is parameters, masters, moments, the loss scale, counters, optimizer groups, the lr scheduler, the module's
        buffers, the random number generators of Python, torch and numpy, and `client_state`: a dict of JSON values and
        tensors. States on NVMe are not copied: the store keeps them until the directory is deleted. With
        `exclude_frozen_parameters` frozen parameters are left out: such a checkpoint is loaded into a model that has
        them already, with `load_module_strict=False`. With `save_latest` the file `<save_dir>/latest` names this
        checkpoint once it is complete.

        Returns when the checkpoint is on the drive; with "orlop.checkpoint.background" when it has begun, and it is
        completed by a later `step()`, save, load or `close()`. "orlop.checkpoint.keep" bounds how many are kept. Raises
        NoSpaceError and other OrlopErrors, the checkpoints there are still being complete; returns False instead where
        "orlop.checkpoint.on_failure" is "continue".
        """
        self._check_usable()
        if self._flow.backwards or self._flow.taken:
            _log.logger.warning(
                "save_checkpoint: the gradients of the micro-batches since the last update are not saved: training "
                "that goes on from it begins that update again"
            )
        self._finish_save(wait=True)
        with self._timeline.phase("checkpoint"):
            name = f"global_step{self.global_steps}" if tag is None else str(tag)
            return self._save_as(save_dir, name, client_state, save_latest, exclude_frozen_parameters)

    def _save_as(
        self, save_dir: str | os.PathLike[str], tag: str, client_state: Any, save_latest: bool, exclude_frozen: bool
    ) -> bool:
        try:
            _checkpoint.begin(self, save_dir, tag, client_state, save_latest, exclude_frozen)
        except OSError as error:
            if not _checkpoint.goes_on_after(self, error):
                raise
            return False
        if _checkpoint.setting(self, "background"):
            return True
        return self._finish_save(wait=True)

    def _finish_save(self, wait: bool) -> bool:
        """Completes a save that has ended, with `wait` every one. Whether there is a complete one."""
        if self._save is None:
            return True
        save = self._save
        try:
            outcome = _checkpoint.finish(self, save, wait)
        except Exception:  # after Ctrl-C, which is none, it goes on being written
            self._save = None
            raise
        if outcome is not _checkpoint.Outcome.PENDING:
            self._save = None
        return outcome is _checkpoint.Outcome.SAVED

    def load_checkpoint(
        self,
        load_dir: str | os.PathLike[str],
        tag: str | None = None,
        load_module_strict: bool = True,
        load_optimizer_states: bool = True,
        load_lr_scheduler_states: bool = True,
        load_module_only: bool = False,
        custom_load_fn: Any = None,
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Goes on from `<load_dir>/<tag>`, by default the latest one.

        Where states live, budgets, queues and drives may be others than when it was saved; the model and the
        optimizer's groups must be the same. Without `load_module_strict` what only the model or only the checkpoint has
        stays as it is; shapes and types must agree in any case. Without `load_optimizer_states`, or with
        `load_module_only`, only parameters and buffers are loaded, and masters take their values. Every byte is
        compared with its checksum.

        What `orlop import` made has parameters alone: masters take their values, moments and counters begin at 0, and
        groups, scheduler and random numbers stay, as do, with a warning, buffers that it does not have.

        Returns (path, client_state); (None, None), with a warning, when no tag is given and none is the latest. Raises
        NotFoundError, CorruptError, or InvalidArgumentError with the list of differences for another model.
        """
        self._check_usable()
        if custom_load_fn is not None:
            raise UnsupportedError(
                "load_checkpoint: on custom_load_fn: parameters are loaded by the engine, wherever it keeps them; "
                "change them afterwards with load_module_state_dict"
            )
        self._finish_save(wait=True)
        directory = _checkpoint.find(load_dir, tag)
        if directory is None:
            return None, None
        saved = _checkpoint.Saved(directory)
        with_states = load_optimizer_states and not load_module_only
        _checkpoint.begin_load(self, saved, with_states, load_module_strict)
        try:
            self._native.checkpoint_wait(wait=True)
        except KeyboardInterrupt:
            self._native.cancel_load()
            self.close()
            raise
        self._units.evict_idle()
        self._flow.start_over()
        self._flow.loss_scale = self._native.loss_scale()
        client = _checkpoint.restore(self, saved, with_states, load_lr_scheduler_states and not load_module_only)
        return str(directory), client

    def _own_tensors(self) -> dict[str, Tensor]:
        """The module's state that the engine does not have: buffers, and parameters it has no use for."""
        ours = {id(parameter.tensor) for parameter in self._registered}
        state = self.module.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor) and id(tensor) not in ours}

    def _set_own_tensors(self, saved: dict[str, Tensor]) -> None:
        ours = self._own_tensors()
        for name in ours.keys() & saved.keys():
            with torch.no_grad():
                ours[name].copy_(saved[name])

    # ---- Seeing ----

    def stats(self) -> dict[str, Any]:
        """Bytes and seconds since the start; the fields of `orlop.Stats`."""
        return asdict(Stats.of(self._native.stats()))

    def describe(self) -> dict[str, Any]:
        """What was decided and why: configuration, units, tiers, the queue and its calibration, the store's path."""
        return self._native.describe()

    def unexpected_uses(self) -> dict[str, int]:
        """Uses, by the module's name, that came in another order than the pass before had shown, or only there.

        Of modules whose parameters live in the store. Such a use is served like any other, but was not read ahead.
        """
        return self._units.unexpected_uses()

    def write_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes what happened as Chrome/Perfetto trace JSON, if "orlop.trace" is on."""
        self._native.write_trace(os.fspath(path))

    # ---- The end ----

    @property
    def is_open(self) -> bool:
        return self._native.is_open

    def close(self) -> None:
        """Ends training: parameters become ordinary tensors with their final values, the store is removed.

        Waits for what the drive still has to do. Closing twice does nothing. Tensors that share memory with parameters
        stay valid; arrays that numpy made of them do not.
        """
        native = self._native
        if not native.is_open:
            return
        try:
            self._finish_save(wait=True)
            self._timeline.close(self)
        finally:
            self._close_native()

    def _close_native(self) -> None:
        native = self._native
        self._flow.detach()
        self._units.detach()
        try:
            self._units.move_out()
        finally:
            for parameter in self._registered:
                parameter.move_out()
            checkpointing.forget_engine(native)
            native.close()

    def destroy(self) -> None:
        """The same as `close()`, by DeepSpeed's name."""
        self.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_native" in self.__dict__:
            with contextlib.suppress(Exception):
                self.close()

    def extra_repr(self) -> str:
        return f"zero stage {self.zero_optimization_stage()}, {len(self._registered)} parameters"


def _plane(name: str) -> Plane:
    try:
        return _PLANES[name]
    except KeyError:
        raise InvalidArgumentError(f"plane: on {name!r}: must be one of {', '.join(_PLANES)}") from None


def check_unclaimed(what: str, model: nn.Module) -> None:
    """Raises OutOfOrderError when an open engine has one of the model's parameters."""
    claimed = {id(theirs.tensor) for engine in _engines if engine.is_open for theirs in engine._registered}
    for name, parameter in model.named_parameters():
        if id(parameter) in claimed:
            raise OutOfOrderError(f"{what}: on {name}: an engine has it; close that engine first: engine.close()")


def open_engines() -> list[Engine]:
    """Every engine of this process that is open."""
    return [engine for engine in _engines if engine.is_open]


def engine_of(parameter: Any) -> Engine | None:
    """The open engine that has a parameter."""
    for engine in open_engines():
        found = engine._by_id.get(id(parameter))
        if found is not None and found.tensor is parameter:
            return engine
    return None


def close_all() -> None:
    """Closes every engine of this process that is open."""
    for engine in list(_engines):
        engine.close()
