"""orlop.checkpointing: outputs and gradients as without it, wherever the inputs wait meanwhile."""

from __future__ import annotations

import copy
import gc
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
import torch.multiprocessing as mp
from conftest import config, tiny_llama
from orlop import _kept_inputs, checkpointing
from orlop._copies import DirectCopies
from torch import Tensor, nn

Checkpoint = Callable[..., Any]

WAYS: dict[str, dict[str, Any]] = {
    "in place": {},
    "in host memory": {"checkpoint_in_cpu": True},
    "in one buffer": {"contiguous_checkpointing": True, "num_checkpoints": 4},
    "in one buffer in host memory": {
        "checkpoint_in_cpu": True,
        "contiguous_checkpointing": True,
        "num_checkpoints": 4,
    },
}


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins with nothing configured, and tensors of the CPU take the way of a GPU's."""
    monkeypatch.setattr(_kept_inputs.OnHost, "keeps_host_tensors", True)
    monkeypatch.setattr(checkpointing, "_state", checkpointing._State())
    yield


def plainly(function: Checkpoint, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


# ---- The same outputs and gradients ----


class Blocks(nn.Module):
    """Layers with dropout, each one a checkpoint; a mask and a flag go to all of them."""

    def __init__(self, checkpoint: Checkpoint, count: int = 4) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(count))
        self.dropout = nn.Dropout(0.3)

    def block(self, layer: nn.Linear, x: Tensor, mask: Tensor | None, is_last: bool, *, bias: Tensor) -> Any:
        y = self.dropout(torch.tanh(layer(x)) + bias)
        y = y if mask is None else y.masked_fill(mask, 0.5)
        return y, None, is_last, y.square().sum()

    def forward(self, x: Tensor, mask: Tensor | None, bias: Tensor) -> Tensor:
        total = x.new_zeros(())
        for number, layer in enumerate(self.layers):
            is_last = number == len(self.layers) - 1
            x, nothing, was_last, square = self.checkpoint(self.block, layer, x, mask, is_last, bias=bias)
            assert nothing is None and was_last is is_last
            total = total + square
        return total + x.sum()


def results_of(checkpoint: Checkpoint, **inputs: bool) -> list[Tensor]:
    """The loss, every gradient, and the random numbers that come next."""
    torch.manual_seed(3)
    model = Blocks(checkpoint)
    x = torch.randn(32, 24, requires_grad=inputs.get("x_has_grad", True))
    bias = torch.randn(32, 24, requires_grad=inputs.get("bias_has_grad", True))
    mask = torch.rand(32, 24) > 0.7 if inputs.get("has_mask", True) else None
    loss = model(x, mask, bias)
    loss.backward()
    gradients = [tensor.grad for tensor in (x, bias, *model.parameters()) if tensor.grad is not None]
    return [loss.detach(), *gradients, torch.rand(5)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inputs", [{}, {"x_has_grad": False}, {"bias_has_grad": False, "has_mask": False}])
def test_outputs_gradients_and_random_numbers_are_those_without_it(way: str, inputs: dict[str, bool]) -> None:
    expected = results_of(plainly, **inputs)
    checkpointing.configure(**WAYS[way])
    assert_equal(results_of(checkpointing.checkpoint, **inputs), expected)


@pytest.mark.parametrize("way", WAYS)
def test_several_passes_and_kept_graphs_are_right(way: str) -> None:
    checkpointing.configure(**WAYS[way])
    torch.manual_seed(3)
    model, x = Blocks(checkpointing.checkpoint), torch.randn(32, 24, requires_grad=True)
    plain = copy.deepcopy(model)
    plain.checkpoint = plainly
    model.eval(), plain.eval()  # no dropout: the two models draw no numbers
    bias = torch.ones(32, 24)
    first, second = model(x, None, bias), model(2 * x, None, bias)
    for _ in range(2):
        first.backward(retain_graph=True)
    second.backward()
    found, x.grad = x.grad, None
    first, second = plain(x, None, bias), plain(2 * x, None, bias)
    for _ in range(2):
        first.backward(retain_graph=True)
    second.backward()
    assert torch.equal(found, x.grad)


@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_within_checkpoints_are_right(way: str) -> None:
    def results(checkpoint: Checkpoint) -> list[Tensor]:
        torch.manual_seed(4)
        layers = [nn.Linear(24, 24) for _ in range(3)]
        x = torch.randn(32, 24, requires_grad=True)

        def inner(x: Tensor) -> Tensor:
            return nn.functional.dropout(layers[1](x).relu(), 0.5)

        def outer(x: Tensor) -> Tensor:
            return layers[2](checkpoint(inner, layers[0](x)))

        checkpoint(outer, checkpoint(inner, x)).square().sum().backward()
        return [x.grad, *(layer.weight.grad for layer in layers)]

    expected = results(plainly)
    checkpointing.configure(**WAYS[way])
    assert_equal(results(checkpointing.checkpoint), expected)
    gc.collect()
    assert checkpointing.host_memory()["used_bytes"] == 0


def test_autocast_is_the_same_the_second_time() -> None:
    layer, x = nn.Linear(24, 24), torch.randn(32, 24)

    def gradient(checkpoint: Checkpoint) -> Tensor:
        layer.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = checkpoint(lambda x: layer(x).square(), x)
        y.float().sum().backward()
        return layer.weight.grad

    checkpointing.configure(checkpoint_in_cpu=True)
    assert torch.equal(gradient(checkpointing.checkpoint), gradient(plainly))


@pytest.mark.parametrize("strided", [lambda x: x.t(), lambda x: x[::2], lambda x: x[:1].expand(32, 24)])
def test_an_inputs_strides_are_the_same_the_second_time(strided: Callable[[Tensor], Tensor]) -> None:
    seen = []

    def block(x: Tensor) -> Tensor:
        seen.append(x.stride())
        return x.square().sum()

    checkpointing.configure(checkpoint_in_cpu=True)
    x = torch.randn(32, 24, requires_grad=True)
    checkpointing.checkpoint(block, strided(x)).backward()
    assert seen[0] == seen[1]
    found, x.grad = x.grad, None
    strided(x).square().sum().backward()
    assert torch.equal(found, x.grad)


def test_what_functools_partial_and_tuples_hold_counts_as_inputs() -> None:
    from functools import partial

    checkpointing.configure(checkpoint_in_cpu=True)
    a, b, c = (torch.randn(32, 24, requires_grad=True) for _ in range(3))
    checkpointing.checkpoint(partial(lambda a, pair, *, c: (a * pair[0] * c).sum(), c=c), a, (b, "text")).backward()
    assert torch.equal(b.grad, a.detach() * c.detach()) and torch.equal(c.grad, (a * b).detach())
    gc.collect()
    assert checkpointing.host_memory()["peak_bytes"] >= 3 * a.nbytes


def test_without_gradients_it_is_a_call() -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    with torch.no_grad():
        assert checkpointing.checkpoint(lambda x, y: x + y, 1, y=2) == 3
    assert checkpointing.host_memory()["host_bytes"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_an_exception_in_either_pass_leaves_nothing_behind(way: str) -> None:
    checkpointing.configure(**WAYS[way])
    fails = {"forward": True, "again": True}
    x = torch.randn(32, 24, requires_grad=True)

    def block(x: Tensor) -> Tensor:
        step = "again" if torch._C._current_graph_task_id() != -1 else "forward"
        if fails[step]:
            raise ValueError(step)
        return x.square()

    with pytest.raises(ValueError, match="forward"):
        checkpointing.checkpoint(block, x)
    fails["forward"] = False
    with pytest.raises(ValueError, match="again"):
        checkpointing.checkpoint(block, x).sum().backward()
    fails["again"] = False
    checkpointing.checkpoint(block, x).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())
    gc.collect()
    assert checkpointing.host_memory()["used_bytes"] == 0


def test_an_input_that_was_changed_meanwhile_is_refused() -> None:
    checkpointing.configure(contiguous_checkpointing=True, num_checkpoints=1)
    x, mask = torch.randn(32, 24, requires_grad=True), torch.zeros(32, 24, dtype=torch.bool)
    y = checkpointing.checkpoint(lambda x, mask: x.masked_fill(mask, 0).square(), x, mask)
    mask[0] = True
    with pytest.raises(orlop.OutOfOrderError, match="changed in place"):
        y.sum().backward()


# ---- Where they wait ----


def test_inputs_leave_memory_until_they_are_needed() -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    x = torch.randn(64, 64)
    kept = checkpointing.checkpoint(lambda x: x.square(), x.requires_grad_())
    assert checkpointing.host_memory()["used_bytes"] == x.nbytes
    kept.sum().backward()
    del kept
    gc.collect()
    assert checkpointing.host_memory()["used_bytes"] == 0
    assert checkpointing.host_memory()["peak_bytes"] == x.nbytes


def test_what_is_not_floating_point_or_small_or_a_parameter_stays() -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    weight = nn.Parameter(torch.randn(64, 64))
    tokens, small = torch.arange(64), torch.randn(8, requires_grad=True)

    def block(weight: Tensor, tokens: Tensor, small: Tensor) -> Tensor:
        return weight[tokens].sum() * small.sum()

    y = checkpointing.checkpoint(block, weight, tokens, small)
    assert checkpointing.host_memory()["used_bytes"] == 0
    y.backward()
    assert weight.grad is not None


def test_a_tensor_that_several_checkpoints_are_given_is_copied_once() -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    mask = torch.randn(64, 64)
    x = torch.randn(64, 64, requires_grad=True)
    y = x
    for _ in range(3):
        y = checkpointing.checkpoint(lambda x, mask: x * mask, y, mask)
    assert checkpointing.host_memory()["used_bytes"] == (3 + 1) * x.nbytes
    mask.mul_(2)  # another value, which is another copy
    checkpointing.checkpoint(lambda x, mask: x * mask, x, mask)
    y.sum().backward()
    assert torch.allclose(x.grad, (mask / 2) ** 3)


def test_host_memory_is_not_taken_anew_in_every_pass() -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    for _ in range(3):
        results_of(checkpointing.checkpoint)
        gc.collect()
        taken = checkpointing.host_memory()
        assert taken["used_bytes"] == 0 and taken["host_bytes"] == 64 << 20


def test_one_buffer_is_made_for_all_checkpoints_and_more_stay_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    checkpointing.configure(contiguous_checkpointing=True, num_checkpoints=2)
    expected = results_of(plainly)
    assert_equal(results_of(checkpointing.checkpoint), expected)
    assert [record.message for record in caplog.records if "number_checkpoints (2)" in record.message]


def test_one_buffer_needs_the_number_of_checkpoints() -> None:
    with pytest.raises(orlop.ConfigError, match="number of layers"):
        checkpointing.configure(contiguous_checkpointing=True)
    with pytest.raises(orlop.ConfigError, match="on profiles"):
        checkpointing.configure(profiles=True)


def test_the_times_are_printed_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    checkpointing.configure(profile=True, synchronize=True)
    results_of(checkpointing.checkpoint)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("computed again in" in line for line in lines)


def test_on_a_machine_without_a_gpu_activations_stay_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_kept_inputs.OnHost, "keeps_host_tensors", False)
    checkpointing.configure(checkpoint_in_cpu=True)
    with caplog.at_level("INFO", logger="orlop"):
        results_of(checkpointing.checkpoint)
    assert checkpointing.host_memory()["host_bytes"] == 0
    assert [record.message for record in caplog.records if "in host memory already" in record.message]


class SlowCopies(DirectCopies):
    """A device whose copies end when somebody waits, or much later: what is used too early is not there."""

    def __init__(self) -> None:
        self.pending: list[int] = []
        self.marks = 0
        self.events: list[tuple[str, int]] = []

    def _begin(self, what: str) -> int:
        self.marks += 1
        self.pending.append(self.marks)
        self.events.append((what, self.marks))
        return self.marks

    def out(self, source: Tensor, target: Tensor) -> Any:
        target.copy_(source)
        return self._begin("out")

    def back(self, source: Tensor, after: Any, device: torch.device) -> Any:
        assert after in self.pending or after <= self.marks
        return source.clone(), self._begin("back")

    def join(self, tensor: Tensor, mark: Any) -> None:
        self.events.append(("join", mark))

    def is_done(self, mark: Any) -> bool:
        return mark not in self.pending

    def wait(self, mark: Any) -> None:
        self.pending = [pending for pending in self.pending if pending > mark]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> SlowCopies:
    slow = SlowCopies()
    monkeypatch.setattr(_kept_inputs, "copies_for", lambda device: slow)
    return slow


def chain(count: int) -> Tensor:
    x = torch.randn(64, 64, requires_grad=True)
    for _ in range(count):
        x = checkpointing.checkpoint(torch.square, x)
    return x.sum()


def test_each_checkpoint_fetches_what_the_one_before_it_will_need(copies: SlowCopies) -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    chain(4).backward()
    # 1 to 4 are the copies out; 5 is the last checkpoint's way back, and before it is joined nothing more begins
    order = [event for event in copies.events if event[0] != "out"]
    assert order == [
        ("back", 5),
        ("join", 5),
        ("back", 6),
        ("join", 6),
        ("back", 7),
        ("join", 7),
        ("back", 8),
        ("join", 8),
    ]


def test_memory_is_lent_again_only_when_copies_from_it_have_ended(copies: SlowCopies) -> None:
    checkpointing.configure(checkpoint_in_cpu=True)
    chain(2).backward()
    gc.collect()
    used = checkpointing.host_memory()["used_bytes"]
    assert used == 2 * 64 * 64 * 4, "both copies back are pending"
    copies.pending.clear()
    chain(1)
    assert checkpointing.host_memory()["used_bytes"] == 64 * 64 * 4


def test_a_full_pool_waits_for_copies_before_it_gives_up(copies: SlowCopies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "_host_limit", lambda: 4 << 20)
    monkeypatch.setattr(checkpointing, "_state", checkpointing._State())
    checkpointing.configure(checkpoint_in_cpu=True)
    for _ in range(3):
        x = torch.randn(1024, 1024, requires_grad=True)  # 4 MiB: all of it
        checkpointing.checkpoint(torch.square, x).sum().backward()
        gc.collect()
    kept = checkpointing.checkpoint(torch.square, torch.randn(1024, 1024, requires_grad=True))
    with pytest.raises(orlop.NoMemoryError, match=r"orlop\.memory\.activations"):
        checkpointing.checkpoint(torch.square, torch.randn(1024, 1024, requires_grad=True))
    del kept


# ---- Parts of a model-parallel group ----


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_rank(rank: int, port: int, failed: Any) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    expected = results_of(plainly)
    for way in WAYS.values():
        checkpointing.configure(partition_activations=True, group=_kept_inputs.Group(2, rank), **way)
        found = results_of(checkpointing.checkpoint)
        if not all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True)):
            failed.value = 1
    torch.distributed.destroy_process_group()


def test_each_rank_keeps_a_part() -> None:
    context = mp.get_context("spawn")
    failed = context.Value("i", 0)
    ranks = [context.Process(target=run_rank, args=(rank, port, failed)) for port in [free_port()] for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0, 0] and failed.value == 0


def test_a_rank_keeps_its_part_alone() -> None:
    part = _kept_inputs._part_of(torch.arange(7.0).view(7, 1), _kept_inputs.Group(2, 1))
    assert part.tolist() == [4, 5, 6, 0]


# ---- Random states by name ----


def test_named_random_states_are_the_same_the_second_time() -> None:
    checkpointing.seed_model_parallel(11, rank=0)
    seen = []

    def block(x: Tensor) -> Tensor:
        with checkpointing.tracker.fork():
            seen.append(torch.rand(4))
        return x.square()

    checkpointing.checkpoint(block, torch.randn(8, requires_grad=True)).sum().backward()
    with checkpointing.tracker.fork():
        after = torch.rand(4)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], after)


def test_ranks_draw_different_numbers_from_their_named_state_and_the_same_from_the_other() -> None:
    drawn = []
    for rank in (0, 1):
        checkpointing.seed_model_parallel(11, rank)
        with checkpointing.tracker.fork():
            named = torch.rand(4)
        drawn.append((named, torch.rand(4)))
    assert not torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])
    with pytest.raises(orlop.InvalidArgumentError, match="there already"):
        checkpointing.tracker.add("model-parallel-rng", 5)
    with pytest.raises(orlop.InvalidArgumentError, match="add"), checkpointing.tracker.fork("other"):
        pass


# ---- In an engine ----


class Whole(nn.Module):
    """Checkpoints of modules, whose hooks are then inside what is computed again, and of functions around them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(24, 24), nn.LayerNorm(24), nn.Tanh()) for _ in range(3))
        self.frozen = nn.Linear(24, 24)
        self.frozen.requires_grad_(False)

    def inner(self, x: Tensor) -> Tensor:
        return self.frozen(self.checkpoint(self.blocks[1], self.blocks[0](x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.checkpoint(self.inner, x)
        return self.checkpoint(self.blocks[2], x)


def trained(checkpoint: Checkpoint, store: Path | None) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model = Whole(checkpoint)
    zero: dict[str, Any] = {"stage": 3}
    if store is not None:
        where = {"device": "nvme", "nvme_path": str(store)}
        zero |= {"offload_param": where, "offload_optimizer": where, "stage3_param_persistence_threshold": 0}
        zero |= {"stage3_max_live_parameters": 0}
    with orlop.initialize(model=model, config=config(zero_optimization=zero, orlop={"unit_elements": 1}))[0] as engine:
        for _ in range(3):
            engine.backward(engine(torch.randn(16, 24, requires_grad=True)).square().mean())
            engine.step()
        return engine.module_state_dict()


@pytest.mark.parametrize("way", WAYS)
def test_parameters_may_live_in_the_store(way: str, store: Path) -> None:
    expected = trained(plainly, None)
    checkpointing.configure(**WAYS[way])
    found = trained(checkpointing.checkpoint, store)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_model_of_transformers_trains_alike_with_it(store: Path) -> None:
    def losses(checkpoint: Checkpoint | None, where: Path | None) -> list[float]:
        torch.manual_seed(5)
        model = tiny_llama()
        if checkpoint is not None:
            model.gradient_checkpointing_enable()
            model._set_gradient_checkpointing(True, checkpoint)
        device = {"device": "none"} if where is None else {"device": "nvme", "nvme_path": str(where)}
        zero = {"stage": 3, "offload_param": device, "offload_optimizer": device}
        tokens = torch.randint(0, 256, (2, 16))
        found = []
        with orlop.initialize(model=model.train(), config=config(zero_optimization=zero))[0] as engine:
            for _ in range(3):
                loss = engine(input_ids=tokens, labels=tokens, use_cache=False).loss
                engine.backward(loss)
                engine.step()
                found.append(loss.item())
            if checkpoint is not None:
                assert checkpointing.host_memory()["peak_bytes"] >= 2 * 2 * 16 * 64 * 4, "each layer's input"
        return found

    checkpointing.configure(checkpoint_in_cpu=True)
    expected = losses(None, None)
    assert losses(checkpointing.checkpoint, store) == expected


def test_an_engines_configuration_configures_it_unless_the_program_has() -> None:
    block = {"activation_checkpointing": {"cpu_checkpointing": True, "number_checkpoints": 3}}
    with orlop.initialize(model=nn.Linear(2, 2), config=config(**block))[0]:
        assert checkpointing.is_configured()
        assert checkpointing.settings()["checkpoint_in_cpu"] and checkpointing.settings()["num_checkpoints"] == 3
    with orlop.initialize(model=nn.Linear(2, 2), config=config())[0]:
        assert checkpointing.settings()["checkpoint_in_cpu"], "a configuration without the block says nothing"
    checkpointing.configure(checkpoint_in_cpu=False)
    with orlop.initialize(model=nn.Linear(2, 2), config=config(**block))[0]:
        assert not checkpointing.settings()["checkpoint_in_cpu"]


def test_host_memory_is_bounded_by_what_the_budget_sets_aside() -> None:
    memory = {"host": "256M", "activations": "4M"}
    with orlop.initialize(model=nn.Linear(2, 2), config=config(orlop={"memory": memory}))[0] as engine:
        assert engine.stats()["activation_bytes"] == 4 << 20
        assert engine.stats()["host_bytes"] >= 4 << 20
        assert checkpointing._host_limit() == 4 << 20
        checkpointing.configure(checkpoint_in_cpu=True)
        x = torch.randn(2048, 1024, requires_grad=True)
        with pytest.raises(orlop.NoMemoryError, match="4194304 bytes too many"):
            checkpointing.checkpoint(torch.square, x)
    with orlop.initialize(model=nn.Linear(2, 2), config=config(orlop={"memory": {"host": "256M"}}))[0] as engine:
        stats = engine.stats()
        assert checkpointing._host_limit() == stats["host_budget_bytes"] - stats["host_bytes"] > 0
    assert checkpointing._host_limit() == 0, "no engine, no limit"
