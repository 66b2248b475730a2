"""Weights of safetensors files for models that are not in memory: the values that load_state_dict would give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import orlop
import pytest
import torch
from conftest import TwoLayers, config, same, tiny_llama, train
from import_test import entry, stored
from safetensors.torch import save_file
from torch import Tensor, nn
from zero_init_test import in_memory, on_nvme, values_of

MIB = 1 << 20


class WithBuffers(TwoLayers):
    """With a buffer that is saved, one that is not, a tie, and types that engines do not know."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics = nn.BatchNorm1d(5)
        self.register_buffer("table", torch.rand(3), persistent=False)
        self.again = nn.Linear(13, 37, bias=False)
        self.again.weight = self.first.weight
        self.counts = nn.Parameter(torch.arange(8), requires_grad=False)
        self.scalar = nn.Parameter(torch.tensor(2.5))


def given(dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    torch.manual_seed(4)
    state = {name: value.clone() for name, value in WithBuffers().state_dict().items() if name != "again.weight"}
    return {name: value.to(dtype) if dtype and value.is_floating_point() else value for name, value in state.items()}


def in_two_files(state: dict[str, Tensor], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in part}, folder / f"part{number}.safetensors")
    index = {name: f"part{position % 2}.safetensors" for position, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def in_one_file(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def built(kind: str, store: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.set_default_dtype(dtype)
    try:
        if kind == "meta":
            table = torch.rand(3)
            with torch.device("meta"):
                model = WithBuffers()
            model.table = table  # no file has it
            return model
        if kind == "init":
            with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
                return WithBuffers()
        return WithBuffers()
    finally:
        torch.set_default_dtype(torch.float32)


KINDS = ["meta", "init", "memory"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored_as", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_those_of_load_state_dict(
    kind: str, stored_as: torch.dtype, dtype: torch.dtype, store: Path, tmp_path: Path
) -> None:
    state = given(stored_as)
    expected = built("memory", store, dtype)
    expected.load_state_dict(state, strict=False)
    model = built(kind, store, dtype)
    differences = orlop.zero.load_safetensors(model, in_two_files(state, tmp_path / "model"))
    assert differences == orlop.zero.Differences()
    if kind != "memory":
        assert set(in_memory(model)) <= {"counts"}
        assert {tuple(p.ds_shape) for p in model.parameters() if not p.numel()} >= {(37, 13), (5,), ()}
    assert model.again.weight is model.first.weight
    assert same(values_of(model), {name: value.detach() for name, value in expected.named_parameters()})
    buffers = dict(expected.named_buffers())
    del buffers["table"]
    assert same({name: buffer for name, buffer in model.named_buffers() if name in buffers}, buffers)


@pytest.mark.parametrize("kind", KINDS)
def test_training_from_them_gives_the_same_bits(kind: str, store: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    expected = TwoLayers()
    file = in_one_file(expected.state_dict(), tmp_path)
    with torch.device("meta" if kind == "meta" else "cpu"):
        model = TwoLayers()
    if kind == "init":
        orlop.zero.Init(module=model, config_dict_or_path=on_nvme(store))
    orlop.zero.load_safetensors(model, file)
    file.unlink()  # it is open
    plain = orlop.initialize(model=expected, config=config())[0]
    engine = orlop.initialize(model=model, config=on_nvme(store))[0]
    with plain, engine:
        assert engine.digest() == plain.digest()
        assert train(engine, 2) == train(plain, 2)
        assert engine.digest() == plain.digest()


@pytest.mark.parametrize("kind", ["meta", "init"])
@pytest.mark.parametrize(
    ("stored_as", "made_as"),
    [(torch.float64, torch.float32), (torch.float32, torch.float16), (torch.float64, torch.float16)],
)
def test_types_are_converted_one_after_the_other(
    kind: str, stored_as: torch.dtype, made_as: torch.dtype, store: Path, tmp_path: Path
) -> None:
    """From the file's to the model's to the configuration's, each rounding once."""
    torch.manual_seed(4)
    state = {name: value.to(stored_as) for name, value in TwoLayers().double().state_dict().items()}
    state["first.weight"].uniform_(-1, 1)
    file = in_one_file(state, tmp_path)
    expected = TwoLayers().to(made_as)
    expected.load_state_dict(state)
    settings = on_nvme(store, bf16={"enabled": True})
    with torch.device("meta" if kind == "meta" else "cpu"):
        model = TwoLayers().to(made_as)
    if kind == "init":
        orlop.zero.Init(module=model, config_dict_or_path=on_nvme(store))
    orlop.zero.load_safetensors(model, file)
    with orlop.initialize(model=model, config=settings)[0] as engine:
        found = engine.module_state_dict()
    assert same(found, {name: value.bfloat16() for name, value in expected.state_dict().items()})


def test_what_does_not_agree_is_one_list_and_changes_nothing(store: Path, tmp_path: Path) -> None:
    state = given()
    state["first.weight"] = torch.zeros(13, 37)
    state["counts"] = torch.zeros(8)
    state["second.weights"] = state.pop("second.weight")
    file = in_one_file(state, tmp_path)
    for kind in KINDS:
        model = built(kind, store)
        before = values_of(model) if kind != "meta" else None
        with pytest.raises(orlop.InvalidArgumentError) as raised:
            orlop.zero.load_safetensors(model, file)
        assert str(raised.value) == (
            f"load_safetensors: on {file}: missing: second.weight; unexpected: second.weights; different: counts "
            "(int64, stored F32), first.weight (shape (37, 13), stored (13, 37))"
        )
        assert before is None or same(values_of(model), before)
        assert before is not None or all(parameter.is_meta for parameter in model.parameters())


def test_missing_and_unexpected_names_may_be_allowed(store: Path, tmp_path: Path) -> None:
    state = given()
    state["other"] = state.pop("second.bias")
    file = in_one_file(state, tmp_path)
    model = built("init", store)
    kept = values_of(model)["second.bias"]
    differences = orlop.zero.load_safetensors(model, file, strict=False)
    assert differences == orlop.zero.Differences(missing=["second.bias"], unexpected=["other"])
    found = values_of(model)
    assert torch.equal(found["second.bias"], kept) and torch.equal(found["second.weight"], state["second.weight"])
    with pytest.raises(orlop.InvalidArgumentError, match="missing: second.bias; unexpected: other"):
        orlop.zero.load_safetensors(built("meta", store), file, strict=False)  # it has no value at all


def test_a_buffer_that_no_file_has_needs_a_value(store: Path, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = WithBuffers()
    with pytest.raises(orlop.InvalidArgumentError, match="missing: table"):
        orlop.zero.load_safetensors(model, in_one_file(given(), tmp_path))


def test_of_long_lists_the_beginning_is_shown(tmp_path: Path) -> None:
    file = in_one_file({f"tensor{number:02}": torch.zeros(1) for number in range(20)}, tmp_path)
    with pytest.raises(orlop.InvalidArgumentError, match=r"tensor07 and 12 more$"):
        orlop.zero.load_safetensors(nn.Module(), file)


def test_an_engine_has_its_own_way(store: Path, tmp_path: Path) -> None:
    model = TwoLayers()
    file = in_one_file(TwoLayers().state_dict(), tmp_path)
    said = pytest.raises(orlop.OutOfOrderError, match="load_safetensors: on first.weight: an engine has it")
    with orlop.initialize(model=model, config=on_nvme(store))[0], said:
        orlop.zero.load_safetensors(model, file)


def test_a_file_that_becomes_shorter_is_an_error(store: Path, tmp_path: Path) -> None:
    file = in_one_file(TwoLayers().state_dict(), tmp_path)
    with torch.device("meta"):
        model = TwoLayers()
    orlop.zero.load_safetensors(model, file)
    with file.open("r+b") as opened:
        opened.truncate(200)
    with pytest.raises(orlop.CorruptError, match="it has become shorter"):
        orlop.initialize(model=model, config=on_nvme(store))


def test_changed_values_of_a_file_are_the_models_own(store: Path, tmp_path: Path) -> None:
    file = in_one_file(TwoLayers().state_dict(), tmp_path)
    content = file.read_bytes()
    with torch.device("meta"):
        model = TwoLayers()
    orlop.zero.load_safetensors(model, file)
    with orlop.zero.GatheredParameters(model.first.weight, modifier_rank=0):
        model.first.weight.data.zero_()
    assert not values_of(model)["first.weight"].any() and file.read_bytes() == content
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert not engine.module_state_dict()["first.weight"].any()


# ---- Hugging Face ----


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_pretrained_inside_a_block_gives_the_same_model(
    tied: bool, dtype: torch.dtype, store: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    tiny_llama(tie_word_embeddings=tied).save_pretrained(tmp_path / "model", max_shard_size="100KB")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype)
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype)
    assert in_memory(model) == []
    assert same(values_of(model), {name: value.detach() for name, value in expected.named_parameters()})
    assert same(dict(model.named_buffers()), dict(expected.named_buffers()))
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


# ---- Memory ----

PROGRAM = """
import sys, torch, orlop
from torch import nn

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

torch.set_num_threads(1)
with torch.device("meta"):
    model = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(32)))
config = {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"},
                                "offload_optimizer": {"device": "nvme", "nvme_path": sys.argv[1]}},
          "bf16": {"enabled": True}}
for parameter in model[1:].parameters():
    parameter.requires_grad = False
before = status("VmRSS:")
orlop.zero.load_safetensors(model, sys.argv[2])
engine = orlop.initialize(model=model, config=config)[0]
print(status("VmHWM:") - before - engine.stats()["host_bytes"])
sys.stdout.flush()
type(engine._units)._room = lambda _: 0
engine.close()
"""


def test_streaming_into_an_engine_takes_a_piece(tmp_path: Path) -> None:
    """512 MiB of zeros, which take no room in their file."""
    size = 16 * MIB
    header = {f"{layer}.weight": entry(layer * size, (layer + 1) * size, shape=[2048, 2048]) for layer in range(32)}
    file = tmp_path / "large.safetensors"
    file.write_bytes(stored(header, 0))
    with file.open("r+b") as sparse:
        sparse.truncate(file.stat().st_size + 32 * size)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(file)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (taken,) = re.findall(r"-?\d+", done.stdout)
    assert int(taken) < 96 * MIB, f"{int(taken) / MIB:.0f} MiB"
