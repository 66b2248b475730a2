"""A store on several drives, which here are directories on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, config, tiny_llama, train
from orlop.cli.main import main


@pytest.fixture
def drives(store: Path) -> list[str]:
    """Three drives; no engine may leave a file on one."""
    paths = [store / name for name in ("a", "b", "c")]
    for path in paths:
        path.mkdir()
    return [str(path) for path in paths]


def on(paths: Any, **block: Any) -> dict[str, Any]:
    offload = {"device": "nvme", "nvme_path": paths} if paths else {"device": "none"}
    return {"zero_optimization": {"stage": 3, "offload_optimizer": offload} | block}


def start(paths: Any, **changes: Any) -> orlop.Engine:
    torch.manual_seed(3)
    engine: orlop.Engine = orlop.initialize(model=TwoLayers(), config=config(**on(paths), **changes))[0]
    return engine


def digest_on(paths: Any) -> int:
    with start(paths) as engine:
        train(engine, 4)
        return engine.digest()


def test_any_number_of_drives_gives_the_same_bits(drives: list[str]) -> None:
    expected = digest_on(None)
    for paths in (drives[0], drives[:1], drives[:2], drives):
        assert digest_on(paths) == expected


@pytest.mark.parametrize("stored", [False, True])
def test_a_language_model_is_striped_over_its_drives(drives: list[str], stored: bool) -> None:
    def digest(paths: Any) -> int:
        torch.manual_seed(5)
        more = (
            {"offload_param": {"device": "nvme"}, "stage3_param_persistence_threshold": 0} if stored and paths else {}
        )
        settings = config(bf16={"enabled": True}, **on(paths, **more))
        tokens = torch.arange(48).view(2, 24)
        with orlop.initialize(model=tiny_llama(), config=settings)[0] as engine:
            for _ in range(3):
                engine.backward(engine(input_ids=tokens, labels=tokens).loss)
                engine.step()
            if paths:
                moved = engine.describe()["nvme"]["by_drive"]
                assert [drive["path"] for drive in moved] == paths
                assert sum(drive["share"] for drive in moved) == pytest.approx(1)
                assert all(drive["read_bytes"] > 0 and drive["busy_seconds"] > 0 for drive in moved)
            else:
                assert "nvme" not in engine.describe()
            return engine.digest()

    assert digest(drives[:2]) == digest(None)


def test_what_is_said_of_the_drives_adds_up(drives: list[str]) -> None:
    with start(drives) as engine:
        train(engine, 3)
        engine.digest()  # waits for what is still being written
        stats, described = engine.stats(), engine.describe()
    by_drive = described["nvme"]["by_drive"]
    assert sum(drive["read_bytes"] for drive in by_drive) == stats["nvme_read_bytes"]
    assert sum(drive["write_bytes"] for drive in by_drive) == stats["nvme_write_bytes"]
    assert sum(drive["store_bytes"] for drive in by_drive) == stats["nvme_bytes"]
    stores = [drive["path"] for drive in described["states"]["drives"]]
    assert [Path(path).relative_to(drive).parts[0] for path, drive in zip(stores, drives, strict=True)] == ["orlop"] * 3


@pytest.mark.parametrize(("saved_on", "loaded_on"), [(1, 2), (2, 1), (2, 3), (2, 2)])
def test_a_checkpoint_goes_on_on_any_number_of_drives(
    tmp_path: Path, saved_on: int, loaded_on: int, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in "abcd"]
    for path in paths:
        Path(path).mkdir()
    with start(paths[:saved_on]) as engine:
        train(engine, 2)
        engine.save_checkpoint(str(tmp_path / "saved"), tag="two")
        losses = train(engine, 2)
        expected = engine.digest()
    with start(paths[-loaded_on:]) as engine:
        assert engine.load_checkpoint(str(tmp_path / "saved"))[0]
        assert train(engine, 2) == losses
        assert engine.digest() == expected
    assert main(["verify", str(tmp_path / "saved")]) == 0
    assert main(["ls", str(tmp_path / "saved"), paths[0]]) == 0
    out = capsys.readouterr().out
    for path in paths[:saved_on]:
        assert f"{path}/orlop/" in out
    (tmp_path / "saved" / "two" / "rank0.manifest").unlink()
    assert main(["gc", *paths]) == 0
    assert not [file for path in paths for file in Path(path).rglob("*.store")]


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ([], "the list is empty; name a directory on each drive"),
        (["a", 7], r"entry \[1\] is 7, which is no path"),
        (["a", ""], r'entry \[1\] is "", which is no path'),
        (["a", "b", "a"], r'entry \[2\] is "a", as entry \[0\] is; name each drive once'),
        (7, "must be a path or a list of paths"),
    ],
)
def test_a_bad_list_is_refused_with_its_entry(paths: Any, sentence: str) -> None:
    with pytest.raises(orlop.ConfigError, match=sentence):
        orlop.Config({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": paths}}})


def test_a_bad_drive_is_named_with_its_index_and_nothing_is_created(drives: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(orlop.OrlopError, match=rf"nvme_path\[1\]: on {file}: is not a directory"):
        start([drives[0], str(file), drives[1]])
    with pytest.raises(orlop.NotFoundError, match=r"nvme_path\[2\]: on .*missing: .* create the directory"):
        start([*drives[:2], str(tmp_path / "missing")])
    (tmp_path / "link").symlink_to(drives[0])
    with pytest.raises(
        orlop.InvalidArgumentError, match=r"nvme_path\[1\]: on .*link: is the same directory as nvme_path\[0\]"
    ):
        start([drives[0], str(tmp_path / "link")])
    with pytest.raises(orlop.NoSpaceError, match=r"orlop.memory.nvme .* bytes too many"):
        start(drives, orlop={"memory": {"nvme": "4KiB"}})
    assert [list(Path(path).iterdir()) for path in drives] == [[], [], []]


def test_parameters_go_where_their_states_are(drives: list[str]) -> None:
    for paths in (drives[:2], drives[1::-1]):
        settings = on(drives[:2], offload_param={"device": "nvme", "nvme_path": paths})
        if paths == drives[:2]:
            assert orlop.Config(settings).get("zero_optimization.offload_param.nvme_path") == paths
        else:
            with pytest.raises(orlop.ConfigError, match="a run has one store; write the same"):
                orlop.Config(settings)


def test_a_list_of_one_is_that_one() -> None:
    assert orlop.Config(on(["/x"])).get("zero_optimization.offload_optimizer.nvme_path") == "/x"


def test_a_report_has_a_line_for_each_drive(drives: list[str], tmp_path: Path) -> None:
    with start(drives[:2], orlop={"profile": str(tmp_path / "deepspeed_profile.json")}) as engine:
        train(engine, 4)
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "deepspeed_profile.html").read_text()
    for part in ("measured alone", *(f"<td>{path}</td>" for path in drives[:2])):
        assert part in page
    profile = json.loads((tmp_path / "deepspeed_profile.json").read_text())
    assert len(profile["engine"]["nvme"]["by_drive"]) == 2


def test_a_model_built_out_of_memory_goes_to_all_drives(drives: list[str]) -> None:
    settings = config(
        **on(drives[:2], offload_param={"device": "nvme"}, stage3_param_persistence_threshold=0),
    )
    torch.manual_seed(3)
    with orlop.zero.Init(config_dict_or_path=settings):
        model = TwoLayers()
    with orlop.initialize(model=model, config=settings)[0] as engine:
        train(engine, 4)
        digest = engine.digest()
        assert len(engine.describe()["nvme"]["by_drive"]) == 2
    assert digest == digest_on(None)
