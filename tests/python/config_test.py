"""The forms a configuration may have, and what is said about bad ones."""

from __future__ import annotations

import argparse
import base64
import json
import logging
from pathlib import Path
from typing import Any

import numpy
import orlop
import pytest
import torch
from conftest import TwoLayers, config, offload


def test_a_dict_a_text_a_file_and_base64_say_the_same(tmp_path: Path) -> None:
    source = {"gradient_clipping": 0.5, "train_batch_size": 6, "gradient_accumulation_steps": 3}
    text = json.dumps(source)
    file = tmp_path / "ds_config.json"
    file.write_text("// as people write them\n" + text.replace("}", ",}"))
    forms: list[Any] = [source, text, file, str(file), base64.urlsafe_b64encode(text.encode()).decode()]
    resolved = [orlop.Config(form).values for form in forms]
    assert all(values == resolved[0] for values in resolved)
    assert resolved[0]["train_micro_batch_size_per_gpu"] == 2


def test_a_dict_may_hold_paths_numpy_numbers_and_infinity() -> None:
    resolved = orlop.Config(
        {
            "steps_per_print": float("inf"),
            "gradient_clipping": numpy.float32(0.5),
            "zero_optimization": offload("nvme") | {"offload_optimizer": {"device": "nvme", "nvme_path": Path("/tmp")}},
        }
    )
    assert resolved.get("gradient_clipping") == 0.5
    assert resolved.get("zero_optimization.offload_optimizer.nvme_path") == "/tmp"


def test_a_key_that_is_not_set_has_the_default_asked_for() -> None:
    resolved = orlop.Config(None)
    assert resolved.get("train_batch_size") is None
    assert resolved.get("no.such.key", 5) == 5


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(orlop.ConfigError, match="'/nowhere/c.json': there is no such file, and it is no JSON object"):
        orlop.Config("/nowhere/c.json")
    with pytest.raises(orlop.ConfigError, match="given as int: must be a dict, JSON text or the path of a file"):
        orlop.Config(3)  # type: ignore[arg-type]
    with pytest.raises(orlop.ConfigError, match="device cpu has no place in a configuration|no place"):
        orlop.Config({"optimizer": torch.device("cpu")})
    with pytest.raises(orlop.ConfigError, match="line 1"):
        orlop.Config('{"gradient_clipping": }')


def test_the_configuration_may_come_in_args_but_only_once() -> None:
    args = argparse.Namespace(deepspeed_config=config(gradient_clipping=0.25))
    engine, *_ = orlop.initialize(args=args, model=TwoLayers())
    with engine:
        assert engine.gradient_clipping() == 0.25
    with pytest.raises(orlop.ConfigError, match="given more than once"):
        orlop.initialize(args=args, model=TwoLayers(), config={})


def test_config_params_is_another_name_for_config() -> None:
    with orlop.initialize(model=TwoLayers(), config_params=config(gradient_clipping=0.25))[0] as engine:
        assert engine.gradient_clipping() == 0.25


def test_an_unknown_key_is_a_warning_with_the_nearest_known_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "orlop"):
        orlop.initialize(model=TwoLayers(), config=config(gradient_cliping=1.0))[0].close()
    assert '"gradient_cliping": unknown key, ignored; did you mean "gradient_clipping"?' in caplog.text


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"zero_optimization": offload("nvme")}, "nvme_path is missing"),
        (
            {"train_batch_size": 5, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2},
            "make them agree",
        ),
        ({"optimizer": {"type": "Lamb"}}, "Lamb"),
        ({"fp16": {"enabled": True, "min_loss_scale": 0}}, "a dynamic loss scale cannot fall to 0"),
        ({"scheduler": {"type": "WarmUpLR"}}, "write one of LRRangeTest"),
        ({"gradient_clipping": "much"}, "gradient_clipping"),
        ({"orlop": {"strict_config": True}, "gradient_cliping": 1.0}, "did you mean"),
    ],
)
def test_a_bad_configuration_is_a_config_error_and_leaves_the_model_alone(bad: dict[str, Any], sentence: str) -> None:
    model = TwoLayers()
    address = model.first.weight.data_ptr()
    with pytest.raises(orlop.ConfigError, match=sentence):
        orlop.initialize(model=model, config=bad)
    assert model.first.weight.data_ptr() == address
