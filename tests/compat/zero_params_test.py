"""Parameters under stage 3: in the model only while modules use them, wherever their values are, and exact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import orlop
import pytest
import torch
from deepspeed.runtime.zero import TiledLinear, TiledLinearReturnBias, ZeroParamStatus, unwrap_model_for_generation
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

torch.set_num_threads(1)

DEVICES = ["none", "cpu", "nvme"]


def settings(device: str, path: Path, threshold: int = 0, **changes: Any) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": 3, "stage3_param_persistence_threshold": threshold}
    if device != "none":
        zero |= {key: {"device": device, "nvme_path": str(path)} for key in ("offload_param", "offload_optimizer")}
    adam = {"type": "AdamW", "params": {"lr": 1e-2, "eps": 1e-5}}
    return {"train_micro_batch_size_per_gpu": 4, "optimizer": adam, "zero_optimization": zero} | changes


def scattered(model: nn.Module) -> list[str]:
    """Parameters whose attributes say so; no attribute may contradict another."""
    names = []
    for name, p in model.named_parameters():
        assert p.ds_numel == p.ds_shape.numel() and p.ds_tensor.numel() == p.ds_numel
        is_away = p.ds_status is ZeroParamStatus.NOT_AVAILABLE
        assert p.shape == (torch.Size([0]) if is_away else p.ds_shape)
        assert not (is_away and p.ds_persist)
        names += [name] if is_away else []
    return names


def losses_of(engine: Any, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(steps * engine.gradient_accumulation_steps()):
        x = torch.randn(4, 13, generator=generator).to(next(iter(engine.module.parameters())).dtype)
        loss = engine(x).float().pow(2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def trained_alike(make: Callable[[], nn.Module], device: str, path: Path, **changes: Any) -> nn.Module:
    """Three steps as under stage 0; the model."""
    torch.manual_seed(7)
    model = make()
    plain = copy.deepcopy(model)
    chosen = settings(device, path, **changes)
    expected = deepspeed.initialize(model=plain, config=chosen | {"zero_optimization": {"stage": 0}})[0]
    engine = deepspeed.initialize(model=model, config=chosen)[0]
    every = [name for name, _ in model.named_parameters()]
    assert scattered(model) == every
    assert losses_of(engine, 3) == losses_of(expected, 3)
    assert engine.digest() == expected.digest()
    assert scattered(model) == every
    engine.destroy()
    expected.destroy()
    assert scattered(model) == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    return model


class Blocks(nn.Module):
    """Norms and products save the parameter itself for their backward; one weight is tied, one is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 16)
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.RMSNorm(16)])
        self.gain = nn.Parameter(torch.rand(16))
        self.mixed = nn.MultiheadAttention(16, 2, batch_first=True)
        self.again = nn.Linear(16, 16)
        self.tied = nn.Linear(16, 16, bias=False)
        self.tied.weight = self.again.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm in self.norms:
            x = x + norm(x) * self.gain
        x = x + self.mixed(x[None], x[None], x[None])[0][0]
        return self.tied(torch.tanh(self.again(self.again(x))))


@pytest.mark.parametrize("precision", [{}, {"bf16": {"enabled": True}}, {"fp16": {"enabled": True}}])
@pytest.mark.parametrize("device", DEVICES)
def test_training_is_that_of_whole_parameters(device: str, precision: dict[str, Any], tmp_path: Path) -> None:
    trained_alike(Blocks, device, tmp_path, **precision)


def test_micro_batches_and_an_optimizer_that_torch_runs(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = Blocks()
    plain = copy.deepcopy(model)
    results = []
    for each, stage in ((plain, 0), (model, 3)):
        chosen = settings("none", tmp_path, gradient_accumulation_steps=2, zero_allow_untested_optimizer=True)
        chosen.pop("optimizer")
        chosen["zero_optimization"]["stage"] = stage
        optimizer = torch.optim.RMSprop(each.parameters(), lr=1e-3)
        engine = deepspeed.initialize(model=each, optimizer=optimizer, config=chosen)[0]
        results.append((losses_of(engine, 2), engine.digest()))
        engine.destroy()
    assert results[0] == results[1]


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(13, 13)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(13), nn.Linear(13, 13), nn.GELU()) for _ in range(3))
        self.blocks[1].requires_grad_(False)
        self.blocks[2][0].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("device", ["none", "nvme"])
def test_activations_that_are_computed_again(device: str, reentrant: bool, tmp_path: Path) -> None:
    trained_alike(lambda: Checkpointed(reentrant), device, tmp_path)


class Out(NamedTuple):
    value: Tensor
    other: Any


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(13, 13) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer, form in zip(self.layers, self.forms(), strict=True):
            x = form(layer, x)
        return x

    def forms(self) -> Iterable[Callable[[nn.Module, Tensor], Tensor]]:
        yield lambda layer, x: Out(layer(x), None).value
        yield lambda layer, x: {"a": [layer(x)]}["a"][0]
        yield lambda layer, x: (layer(x), 3)[0]
        yield lambda layer, x: torch.tanh(layer(x))


# ---- Parameters of other modules ----


class LookedUp(nn.Module):
    """Uses its child's weight without calling the child, after having called it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(13, 13)
        self.outer = nn.Linear(13, 13)

    def forward(self, x: Tensor) -> Tensor:
        x = self.outer(self.inner(x))
        return nn.functional.linear(x, self.inner.weight)


class ReturnsBias(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), self.bias


class Dangling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = ReturnsBias(13, 13)
        self.outer = nn.Linear(13, 13)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        x, bias = self.inner(x)
        if hasattr(self, "_external_params"):
            self.seen.append((bias.ds_status, len(self._external_params)))
        return self.outer(x) + bias


class Told(LookedUp):
    """Hides the weight in a list, so that nobody sees it being looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [self.inner.weight]
        deepspeed.zero.register_external_parameter(self, self.inner.weight)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.outer(self.inner(x)), self.hidden[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> Told:
        twin = Told()
        twin.load_state_dict(self.state_dict())
        return twin


@pytest.mark.parametrize("make", [LookedUp, Dangling, Told, Outputs])
@pytest.mark.parametrize("device", ["none", "nvme"])
def test_parameters_that_other_modules_use(make: Callable[[], nn.Module], device: str, tmp_path: Path) -> None:
    trained_alike(make, device, tmp_path)


def test_a_parameter_that_is_returned_stays_for_whoever_gets_it(tmp_path: Path) -> None:
    model = Dangling()
    engine = deepspeed.initialize(model=model, config=settings("none", tmp_path))[0]
    losses_of(engine, 2)
    assert model.seen == [(ZeroParamStatus.AVAILABLE, 1)] * 2
    engine.destroy()


# ---- What programs see ----


def test_small_parameters_stay_whole_and_are_updated(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(13, 16), nn.Linear(16, 5))
    engine = deepspeed.initialize(model=model, config=settings("none", tmp_path, threshold=16))[0]
    assert scattered(model) == ["0.weight", "1.weight"]
    assert model[0].bias.ds_persist and not model[0].weight.ds_persist
    before = model[0].bias.detach().clone()
    losses_of(engine, 1)
    assert not torch.equal(model[0].bias, before)
    assert torch.equal(model[0].bias.flatten(), model[0].bias.ds_tensor)
    held = model[0].weight.ds_tensor
    engine.destroy()
    assert torch.equal(model[0].weight.flatten(), model[0].weight.ds_tensor) and held.numel() == 13 * 16
    assert torch.equal(held, model[0].weight.flatten())


def test_without_dimensions_and_without_elements(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.5))
            self.none = nn.Parameter(torch.empty(0, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.a + self.b

    for threshold in (0, 10):
        model = Scaled()
        engine = deepspeed.initialize(model=model, config=settings("none", tmp_path, threshold=threshold))[0]
        losses_of(engine, 2)
        assert model.none.ds_status is ZeroParamStatus.AVAILABLE
        with deepspeed.zero.GatheredParameters(model.parameters()):
            assert 1.9 < model.a.item() < 2 and model.a.shape == ()
        engine.destroy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", [{}, {"bf16": {"enabled": True}}])
def test_what_was_not_changed_keeps_the_rest_of_its_master(
    device: str, precision: dict[str, Any], tmp_path: Path
) -> None:
    model = Blocks()
    engine = deepspeed.initialize(model=model, config=settings(device, tmp_path, **precision))[0]
    losses_of(engine, 2)
    before = engine.digest()
    with deepspeed.zero.GatheredParameters(model.parameters(), modifier_rank=0):
        pass
    assert engine.digest() == before
    master = deepspeed.utils.safe_get_full_fp32_param(model.first.weight)
    with deepspeed.zero.GatheredParameters(model.first.weight, modifier_rank=0), torch.no_grad():
        model.first.weight[0, :3] = 0.25
    master[0, :3] = 0.25
    assert torch.equal(deepspeed.utils.safe_get_full_fp32_param(model.first.weight), master)
    with pytest.raises(ValueError, match=r"on first.weight: its shape was \(16, 13\)"):  # noqa: SIM117
        with deepspeed.zero.GatheredParameters(model.first.weight, modifier_rank=0):
            model.first.weight.data = torch.ones(2)
    assert scattered(model) == [name for name, _ in model.named_parameters()]
    losses_of(engine, 1)
    engine.destroy()


def test_generation_between_steps(tmp_path: Path) -> None:
    model = Blocks()
    engine = deepspeed.initialize(model=model, config=settings("none", tmp_path))[0]
    x = torch.ones(4, 13)
    losses_of(engine, 1)
    with unwrap_model_for_generation(engine) as plain, torch.no_grad():
        assert plain is model and scattered(model) == []
        expected = plain(x)
    with torch.no_grad():
        assert torch.equal(model(x), expected) and torch.equal(model.eval()(x), expected)
    assert scattered(model) == [name for name, _ in model.named_parameters()]
    losses_of(engine, 1)
    engine.destroy()


@pytest.mark.parametrize("device", ["none", "nvme"])
def test_hooks_can_be_taken_off_to_generate_and_put_back(device: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    models = [LookedUp(), LookedUp()]
    models[1].load_state_dict(models[0].state_dict())
    engines = [deepspeed.initialize(model=each, config=settings(device, tmp_path))[0] for each in models]
    for engine in engines:
        losses_of(engine, 1)
    model, offload = models[0], engines[0].optimizer.parameter_offload
    assert offload.module is model and len(offload.forward_hooks) >= 6
    with deepspeed.zero.GatheredParameters(model.parameters()):
        for parameter in [*model.parameters(), *(found for _, found in model.ds_external_parameters())]:
            parameter.ds_active_sub_modules.clear()
        for hook in offload.forward_hooks + offload.backward_hooks:
            hook.remove()
        offload.forward_hooks = offload.backward_hooks = []
        assert not model._forward_hooks and not model.inner._forward_pre_hooks
        with torch.no_grad():
            model(torch.ones(4, 13))
        offload._register_deepspeed_module(offload.module)
    assert scattered(model) == [name for name, _ in model.named_parameters()]
    assert losses_of(engines[0], 2) == losses_of(engines[1], 2)
    assert engines[0].digest() == engines[1].digest()
    for engine in engines:
        engine.destroy()
    assert not model._forward_hooks and not model.inner._forward_pre_hooks


def test_copies_and_pickles_of_a_model_have_no_part_in_it(tmp_path: Path) -> None:
    model = Blocks()
    engine = deepspeed.initialize(model=model, config=settings("none", tmp_path))[0]
    with deepspeed.zero.GatheredParameters(model.parameters()):
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    losses_of(engine, 1)
    for twin in twins:
        assert type(twin.first._parameters) is dict
        twin(torch.ones(4, 13)).sum().backward()
        assert twin.first.weight.grad is not None
    engine.destroy()
    assert type(model.first._parameters) is dict
    assert not model.first._forward_hooks and not model._forward_pre_hooks


def test_training_goes_on_after_an_exception(tmp_path: Path) -> None:
    class Failing(Blocks):
        fails = False

        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            if self.fails:
                raise KeyError("here")
            return x

    model = Failing()
    engine = deepspeed.initialize(model=model, config=settings("none", tmp_path))[0]
    model.fails = True
    with pytest.raises(KeyError, match="here"):
        losses_of(engine, 1)
    model.fails = False
    losses_of(engine, 1)
    assert scattered(model) == [name for name, _ in model.named_parameters()]
    engine.destroy()


# ---- Tiles ----


@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (3, 2), (10, 7)])
def test_tiles_are_a_linear_layer(ins: int, outs: int) -> None:
    whole = nn.Linear(10, 7)
    tiles = TiledLinear(10, 7, in_splits=ins, out_splits=outs, init_linear=whole)
    assert [len(tiles.linears), len(tiles.linears[0])] == [outs, ins]
    sizes = [row[0].out_features for row in tiles.linears]
    assert sum(sizes) == 7 and max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)
    assert all((tile.bias is not None) == (tile is row[-1]) for row in tiles.linears for tile in row)
    x = torch.randn(4, 10)
    assert torch.allclose(tiles(x), whole(x), atol=1e-6)


def test_tiles_whose_bias_is_returned() -> None:
    class Apart(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return nn.functional.linear(x, self.weight), self.bias

    tiles = TiledLinearReturnBias(10, 7, in_splits=2, out_splits=3, linear_cls=Apart)
    output, bias = tiles(torch.randn(4, 10))
    assert output.shape == (4, 7) and bias.shape == (7,)
    assert TiledLinearReturnBias(10, 7, bias=False, linear_cls=Apart)(torch.randn(4, 10))[1] is None


@pytest.mark.parametrize("splits", [0, 11])
def test_tiles_that_there_cannot_be(splits: int) -> None:
    with pytest.raises(RuntimeError, match="in_splits"):
        TiledLinear(10, 7, in_splits=splits)


def test_orlop_itself_leaves_parameters_in_memory_alone() -> None:
    model = nn.Linear(13, 5)
    chosen = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
    with orlop.initialize(model=model, config=chosen)[0]:
        assert model.weight.numel() == 65 and not hasattr(model.weight, "ds_id")
