"""`orlop import`: training from safetensors files, and what is refused of them."""

from __future__ import annotations

import json
import logging
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from cli_test import run
from conftest import TwoLayers, config, offload, same, tiny_llama, train, values
from orlop.cli import importing
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True}},
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def settings(tier: str, folder: Path, precision: str = "fp32") -> dict[str, Any]:
    where = None
    if tier == "nvme":
        where = folder / "nvme"
        where.mkdir(exist_ok=True)
    return config(zero_optimization=offload(tier, where), **PRECISIONS[precision])


def weights(folder: Path, model: nn.Module, dtype: torch.dtype = torch.float32) -> Path:
    file = folder / "weights.safetensors"
    save_file({name: tensor.detach().to(dtype) for name, tensor in model.named_parameters()}, file)
    return file


class AnyType(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.first.weight.dtype)).float()


# ---- Round trips ----


@pytest.mark.parametrize("tier", ["cpu", "nvme"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("only", [{}, {"load_optimizer_states": False}])
def test_training_from_an_import_equals_training_from_the_model(
    tier: str, precision: str, only: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = AnyType().to(TYPES[precision])
    file = weights(tmp_path, start, TYPES[precision])
    status, out, _ = run(capsys, "import", file, tmp_path / "start")
    assert status == 0 and f"{tmp_path / 'start'}: 6 parameters, " in out
    assert run(capsys, "verify", tmp_path / "start")[0] == 0
    with orlop.initialize(model=start, config=settings("cpu", tmp_path, precision))[0] as engine:
        at_start = engine.digest()
        train(engine, 2)
        expected = engine.digest()
    with orlop.initialize(model=AnyType(), config=settings(tier, tmp_path, precision))[0] as engine:
        for steps in (0, 1):  # fresh, and with states that are to become zero
            if only and steps:
                continue  # states stay
            train(engine, steps)
            path, client = engine.load_checkpoint(tmp_path, tag="start", **only)
            assert (path, client) == (str(tmp_path / "start"), {})
            assert engine.digest() == at_start and engine.global_steps == 0
        train(engine, 2)
        assert engine.digest() == expected


@pytest.mark.parametrize(("stored", "dtype"), [("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "fp32"), ("fp16", "bf16")])
def test_values_are_rounded_to_nearest_even(
    stored: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = torch.cat([torch.randn(70_000), torch.randn(70_000) * 1e-6, torch.tensor([0.0, -0.0, 65504.0])])
    ties = torch.arange(1, 4096, dtype=torch.float32) * 2**-8 + 1  # halfway between two of bf16
    given = {"w": torch.cat([numbers, ties]).to(TYPES[stored]), "b": torch.ones(3, dtype=TYPES[stored])}
    save_file(given, tmp_path / "w.safetensors")
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "c", "--dtype", dtype)[0] == 0
    assert run(capsys, "export", tmp_path / "c", tmp_path / "out")[0] == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in given.items():
        assert torch.equal(found[name].view(torch.uint8), tensor.to(TYPES[dtype]).view(torch.uint8)), name


@pytest.mark.parametrize("dtype", TYPES.values())
def test_export_of_an_import_has_the_same_bits_and_shapes(
    dtype: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = torch.randint(0, 256, (3, 1001, 4 * dtype.itemsize), dtype=torch.uint8)  # of every kind, NaNs too
    given = {"w": bits.view(dtype), "scalar": torch.tensor(2.0, dtype=dtype), "none": torch.zeros(0, dtype=dtype)}
    save_file(given, tmp_path / "w.safetensors")
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "c")[0] == 0
    assert run(capsys, "export", "--full", tmp_path / "c", tmp_path / "moved")[0] == 0
    assert run(capsys, "export", tmp_path / "moved", tmp_path / "out")[0] == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == {"w", "scalar"} and found["scalar"] == 2 and found["scalar"].shape == ()
    assert found["w"].dtype == dtype and torch.equal(found["w"].view(torch.uint8), bits)


@pytest.mark.parametrize("shard", ["50KB", "5GB"])
def test_a_hugging_face_directory_with_tied_weights(
    shard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path / "model", max_shard_size=shard)
    assert (tmp_path / "model" / "model.safetensors.index.json").is_file() == (shard == "50KB")
    assert run(capsys, "import", tmp_path / "model", tmp_path / "start", "--dtype", "bf16")[0] == 0
    expected = values(model.bfloat16())
    with orlop.initialize(model=tiny_llama(), config=settings("cpu", tmp_path, "bf16"))[0] as engine:
        engine.load_checkpoint(tmp_path, tag="start")
        assert same(values(engine.module), expected)
        tokens = torch.randint(256, (2, 16))
        engine.backward(engine(input_ids=tokens, labels=tokens).loss)
        engine.step()


# ---- Into which model ----


class Normed(nn.Module):
    """A frozen parameter, and buffers of two types."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(13, 37), nn.Linear(37, 5)
        self.norm = nn.BatchNorm1d(37)
        self.first.bias.requires_grad = False
        nn.init.normal_(self.norm.running_mean)


def test_frozen_parameters_and_buffers_are_loaded_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = Normed()
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    status, _, error = run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "start")
    assert status == 1 and "norm.num_batches_tracked, I64" in error and "--exclude norm.num_batches_tracked" in error
    arguments = ["--exclude", "*.num_batches_tracked"]
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "start", *arguments)[0] == 0
    model = Normed()
    with (
        orlop.initialize(model=model, config=config())[0] as engine,
        caplog.at_level(logging.WARNING, logger="orlop"),
    ):
        engine.load_checkpoint(tmp_path, tag="start")
        assert same(values(model), values(given))
        assert torch.equal(model.norm.running_mean, given.norm.running_mean)
        assert "it has no buffer norm.num_batches_tracked: left as in the model" in caplog.text


def load(tmp_path: Path, model: nn.Module, **changes: Any) -> None:
    with orlop.initialize(model=model, config=config(**changes))[0] as engine:
        before = engine.digest()
        try:
            engine.load_checkpoint(tmp_path, tag="start")
        finally:
            assert engine.digest() == before


def test_another_model_is_refused_with_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {name: tensor.detach() for name, tensor in TwoLayers().named_parameters()}
    tensors["third.weight"] = tensors.pop("second.weight").reshape(-1)
    tensors["first.weight"] = tensors["first.weight"].T.contiguous()
    save_file(tensors, tmp_path / "w.safetensors")
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "start")[0] == 0
    with pytest.raises(orlop.InvalidArgumentError, match="orlop import --help") as refused:
        load(tmp_path, TwoLayers(), bf16={"enabled": True})
    for part in (
        '"first.weight" has the shape (37, 13), (13, 37) was saved',
        '"second.weight" is not in the checkpoint',
        '"third.weight" is only in the checkpoint',
        '"norm.bias" is bf16, imported as fp32',
    ):
        assert part in str(refused.value)


def test_tied_weights_under_the_other_name_are_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_llama()
    tensors = values(model)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "w.safetensors")
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "start")[0] == 0
    with pytest.raises(orlop.InvalidArgumentError, match='ties it to "model.embed_tokens.weight"'):
        load(tmp_path, tiny_llama())
    shutil.rmtree(tmp_path / "start")
    arguments = ["--rename", "lm_head=model.embed_tokens"]
    assert run(capsys, "import", tmp_path / "w.safetensors", tmp_path / "start", *arguments)[0] == 0
    with orlop.initialize(model=tiny_llama(), config=config())[0] as engine:
        engine.load_checkpoint(tmp_path, tag="start")
        assert same(values(engine.module), values(model))


def test_names_can_get_a_prefix_and_tensors_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = weights(tmp_path, TwoLayers())
    arguments = ["--rename", "=model.", "--rename", "model.first=first", "--exclude", "norm.*"]
    assert run(capsys, "import", file, tmp_path / "start", *arguments)[0] == 0
    assert run(capsys, "export", tmp_path / "start", tmp_path / "out")[0] == 0
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert names == {"first.weight", "first.bias", "model.second.weight", "model.second.bias"}


# ---- What is refused ----


def stored(header: dict[str, Any] | str, data: int, length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def entry(begin: int, end: int, dtype: str = "F32", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "truncated header": (stored({"w": entry(0, 8)}, 0)[:20], "truncated within its header"),
    "truncated data": (stored({"v": entry(0, 4), "w": entry(4, 12)}, 8), "tensor w): it ends at offset 12, 8 bytes"),
    "huge header": (stored("{}", 100, 1 << 40), "which no header needs"),
    "no json": (stored("{nothing}", 0), "is no JSON"),
    "no object": (stored("[1, 2]", 0), "no JSON object"),
    "deep": (stored("[" * 100_000, 0), "is no JSON"),
    "overlap": (stored({"v": entry(0, 8), "w": entry(4, 12)}, 12), "tensor w): it begins at offset 4, which overlaps"),
    "gap": (stored({"v": entry(0, 8), "w": entry(12, 16)}, 16), "leaves a gap of 4 bytes"),
    "backwards": (stored({"w": entry(8, 0, shape=[2])}, 8), "tensor w): 2 elements of F32 do not take -8 bytes"),
    "trailing": (stored({"w": entry(0, 8)}, 24), "16 bytes behind its last tensor"),
    "size": (stored({"w": entry(0, 8, shape=[3])}, 8), "3 elements of F32 do not take 8 bytes"),
    "negative": (stored({"w": entry(0, 8, shape=[-1, -2])}, 8), "tensor w): its entry in the header"),
    "entry": (stored({"w": {"dtype": "F32"}}, 8), "tensor w): its entry in the header"),
    "twice": (stored('{"w": 1, "w": 2}', 0), "tensor w): its header names it twice"),
    "fp8": (stored({"w": entry(0, 8, "F8_E4M3", [8])}, 8), "tensor w, F8_E4M3): it is of a type"),
    "unheard of": (stored({"w": entry(0, 8, "F4", [16])}, 8), "tensor w, F4): it is of a type"),
    "name": (stored({"a\0b": entry(0, 8)}, 8), "cannot be a name"),
    "nothing": (stored({"__metadata__": {}}, 0), "nothing to import"),
}


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, source: Path, *arguments: str) -> str:
    """The one sentence; nothing may be left."""
    capsys.readouterr()
    status, _, error = run(capsys, "import", source, tmp_path / "start", *arguments)
    assert status == 1 and error.startswith("orlop: import: ") and len(error.splitlines()) == 1, error
    assert not (tmp_path / "start").exists()
    return error


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_sentence(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, why = BAD_FILES[case]
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    error = refused(capsys, tmp_path, file)
    assert why in error
    assert str(file) in error or case in ("name", "nothing")


def remove_shard(folder: Path, names: list[str]) -> None:
    (folder / names[1]).unlink()


def copy_tensor(folder: Path, names: list[str]) -> None:
    save_file(load_file(folder / names[0]) | load_file(folder / names[1]), folder / names[1])


def lose_tensor(folder: Path, names: list[str]) -> None:
    save_file(dict(list(load_file(folder / names[1]).items())[1:]), folder / names[1])


def leave_directory(folder: Path, names: list[str]) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(names[1], f"../{names[1]}"))


def forget_index(folder: Path, _: list[str]) -> None:
    (folder / "model.safetensors.index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (remove_shard, "is missing; download it again"),
        (copy_tensor, "has it, too"),
        (lose_tensor, "does not have it"),
        (leave_directory, "its weight_map must say"),
        (forget_index, "no model.safetensors.index.json): which belong together"),
    ],
)
def test_a_sharded_model_that_is_not_whole_is_refused(
    damage: Callable[[Path, list[str]], None], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_llama().save_pretrained(tmp_path / "model", max_shard_size="50KB")
    damage(tmp_path / "model", sorted(path.name for path in (tmp_path / "model").glob("*.safetensors")))
    assert why in refused(capsys, tmp_path, tmp_path / "model")


def test_what_is_missing_or_in_the_way_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = weights(tmp_path, TwoLayers())
    assert "no such file" in refused(capsys, tmp_path, tmp_path / "none.safetensors")
    assert "has no safetensors file" in refused(capsys, tmp_path, (tmp_path / "empty").mkdir() or tmp_path / "empty")
    assert "matches no tensor" in refused(capsys, tmp_path, file, "--exclude", "nothing.*")
    assert "no name begins with it" in refused(capsys, tmp_path, file, "--rename", "a=b")
    assert "write OLD=NEW" in refused(capsys, tmp_path, file, "--rename", "a")
    assert "would have the name second.bias, too" in refused(capsys, tmp_path, file, "--rename", "first.=second.")
    status, _, error = run(capsys, "import", file, tmp_path)
    assert status == 1 and f"{tmp_path}: it is not empty" in error and file.is_file()


def test_values_that_fp16_has_no_room_for_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"v": torch.ones(5), "w": torch.tensor([1.0, 1e5])}, tmp_path / "w.safetensors")
    error = refused(capsys, tmp_path, tmp_path / "w.safetensors", "--dtype", "fp16")
    assert '"w" (element 1): its value is too large for fp16' in error


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbytes = shutil.disk_usage(tmp_path).free + (1 << 30) >> 3 << 3
    file = tmp_path / "w.safetensors"
    file.write_bytes(stored({"w": entry(0, nbytes)}, 0))
    with file.open("r+b") as sparse:
        sparse.truncate(file.stat().st_size + nbytes)
    error = refused(capsys, tmp_path, file)
    assert "bytes are needed" in error and "too few are free" in error


@pytest.mark.parametrize(("after", "status"), [(KeyboardInterrupt, 130), (orlop.TransferError, 1)])
def test_what_ends_it_half_way_leaves_nothing(
    after: type[BaseException],
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = weights(tmp_path, TwoLayers())
    write = orlop._native.Import.write

    def interrupted(self: Any, number: int, *rest: Any) -> None:
        if number == 3:
            raise after
        write(self, number, *rest)

    monkeypatch.setattr(importing._native.Import, "write", interrupted)
    assert run(capsys, "import", file, tmp_path / "start")[0] == status
    assert not (tmp_path / "start").exists()


def test_a_flipped_byte_of_an_import_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "import", weights(tmp_path, TwoLayers()), tmp_path / "start")[0] == 0
    (data,) = (tmp_path / "start").glob("*.states")
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    status, out, _ = run(capsys, "verify", tmp_path / "start")
    assert status == 1 and "NOT sound" in out
    with orlop.initialize(model=TwoLayers(), config=config())[0] as engine, pytest.raises(orlop.CorruptError):
        engine.load_checkpoint(tmp_path, tag="start")
