"""A trainer's life besides its loss curve: evaluation, generation, callbacks, workers, errors, and what it leaves."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hf_runs import (
    LEARNING_RATE,
    LENGTH,
    STEPS,
    VOCABULARY,
    Case,
    Recorder,
    Sentences,
    arguments,
    build,
    close,
    ds_config,
    expected,
    plain_trainer,
    same,
    tolerance,
    trainer_of,
    weights_of,
)
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, TrainerCallback

STORED = Case(place=(3, "nvme", "nvme"), model="llama", is_auto=False)


# ---- Besides training ----


@pytest.mark.parametrize("case", [Case(), STORED, Case(place=(3, "cpu", "cpu"), model="t5")], ids=str)
def test_evaluations_are_those_of_plain_training_and_change_nothing(case: Case, tmp_path: Path) -> None:
    often = {"eval_strategy": "steps", "eval_steps": 4}
    plain = plain_trainer(case, tmp_path, **often)
    plain.train()
    trainer = trainer_of(case, tmp_path, **often)
    trainer.train()
    alone = trainer.evaluate()["eval_loss"]
    close(trainer)

    def evaluations(of: Recorder) -> list[float]:
        return [line["eval_loss"] for line in of.state.log_history if "eval_loss" in line]

    assert len(evaluations(plain)) == STEPS // 4
    assert evaluations(trainer)[: STEPS // 4] == pytest.approx(evaluations(plain), rel=tolerance(case))
    assert alone == evaluations(trainer)[STEPS // 4 - 1]
    assert trainer.losses == pytest.approx(plain.losses, rel=tolerance(case))


def test_evaluation_without_training_needs_no_optimizer(tmp_path: Path) -> None:
    want = plain_trainer(STORED, tmp_path).evaluate()["eval_loss"]
    trainer = trainer_of(STORED, tmp_path)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("case", [Case(), STORED], ids=str)
def test_generation_is_that_of_the_same_weights(case: Case, tmp_path: Path) -> None:
    start = Sentences().tokens[:2, :4]
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    trainer = trainer_of(case, tmp_path, max_steps=4)
    trainer.train()
    found = trainer.model.generate(start, **settings)
    close(trainer)
    again = build(case.model)
    again.load_state_dict(trainer.model.state_dict())
    assert torch.equal(found, again.generate(start, **settings))


def test_callbacks_see_what_they_see_in_plain_training(tmp_path: Path) -> None:
    class Witness(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seen.append((state.global_step, kwargs["optimizer"].param_groups[0]["lr"]))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                self.seen += [logs["loss"], logs["grad_norm"], logs["learning_rate"]]

    seen = []
    for make in (plain_trainer, trainer_of):
        witness = Witness()
        trainer = make(STORED, tmp_path)
        trainer.add_callback(witness)
        trainer.train()
        seen.append(witness.seen)
    close(trainer)
    for ours, theirs in zip(seen[1], seen[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_scale_that_is_too_large_skips_updates_and_comes_down(tmp_path: Path) -> None:
    class Witness(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[tuple[bool, float, bool]] = []  # of each update: changed something, lr, skipped

        def on_step_begin(self, *_: Any, **kwargs: Any) -> None:
            self.before = weights_of(kwargs["model"])

        def on_step_end(self, *_: Any, **kwargs: Any) -> None:
            changed = not same(self.before, weights_of(kwargs["model"]))
            optimizer = kwargs["optimizer"]
            self.seen.append((changed, optimizer.param_groups[0]["lr"], optimizer.step_was_skipped))

    case = Case(precision="fp16", model="llama", blocks="optimizer")
    config = ds_config(case) | {"fp16": {"enabled": True, "loss_scale": 0, "initial_scale_power": 24, "hysteresis": 2}}
    trainer = trainer_of(case, tmp_path, config=config, warmup_steps=0)
    witness = Witness()
    trainer.add_callback(witness)
    trainer.train()
    skipped = trainer.model_wrapped.skipped_steps
    assert trainer.model_wrapped.loss_scale() < 2**24 / 2**3
    close(trainer)
    assert 4 <= skipped < STEPS
    assert witness.seen[:4] == [(False, LEARNING_RATE, True)] * 4
    assert all(changed != was for changed, _, was in witness.seen)
    assert sum(was for *_, was in witness.seen) == skipped
    assert trainer.losses[-1] < 0.98 * trainer.losses[0]


def test_forked_workers_load_the_data(tmp_path: Path) -> None:
    want = expected(STORED)
    trainer = trainer_of(STORED, tmp_path, dataloader_num_workers=2, dataloader_persistent_workers=True)
    trainer.train()
    close(trainer)
    assert trainer.losses == pytest.approx(want, rel=tolerance(STORED))


# ---- Models that are built inside zero.Init ----


def llama_config() -> transformers.LlamaConfig:
    return build("llama").config


def in_full(model: nn.Module) -> dict[str, Tensor]:
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return weights_of(model)


@pytest.mark.parametrize("place", [(3, "cpu", "cpu"), (3, "nvme", "nvme")], ids=str)
def test_a_model_made_under_stage_3_trains_as_any_other(place: Any, tmp_path: Path) -> None:
    case = Case(place=place, model="llama", is_auto=False)
    plain = plain_trainer(case, tmp_path)
    (tmp_path / "nvme").mkdir()
    args = arguments(case, tmp_path / "out", ds_config(case, tmp_path / "nvme"))
    model = AutoModelForCausalLM.from_config(llama_config())
    assert all(hasattr(parameter, "ds_id") for parameter in model.parameters())
    plain.model.load_state_dict(in_full(model), strict=False)  # the tied head is there once
    trainer = Recorder(model=model, args=args, train_dataset=Sentences())
    trainer.train()
    close(trainer)
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    again = plain_trainer(case, tmp_path)
    again.model.load_state_dict(plain.model.state_dict())
    again.train()
    assert trainer.losses == pytest.approx(again.losses, rel=tolerance(case))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pretrained_model_under_stage_3_has_the_weights_of_the_file(precision: str, tmp_path: Path) -> None:
    saved = build("llama")
    saved.save_pretrained(tmp_path / "saved")
    case = Case(place=(3, "nvme", "nvme"), model="llama", precision=precision, is_auto=False)
    (tmp_path / "nvme").mkdir()
    args = arguments(case, tmp_path / "out", ds_config(case, tmp_path / "nvme"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    trainer = Recorder(model=model, args=args, train_dataset=Sentences())
    want = {name: value.to(next(model.parameters()).dtype) for name, value in weights_of(saved).items()}
    assert next(model.parameters()).dtype is {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert same(in_full(model), want)
    trainer.train()
    close(trainer)
    assert trainer.losses[-1] < 0.98 * trainer.losses[0]


def test_embeddings_are_resized_under_stage_3(tmp_path: Path) -> None:
    saved = build("llama")
    saved.save_pretrained(tmp_path / "saved")
    args = arguments(STORED, tmp_path / "out", ds_config(STORED, tmp_path))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    model.resize_token_embeddings(VOCABULARY + 6)
    embedding = model.get_input_embeddings().weight
    assert tuple(embedding.shape) == (VOCABULARY + 6, 24)
    rows = in_full(model)["model.embed_tokens.weight"]
    assert torch.equal(rows[:VOCABULARY], saved.get_input_embeddings().weight)
    assert rows[VOCABULARY:].count_nonzero()
    trainer = Recorder(model=model, args=args, train_dataset=Sentences())
    trainer.train()
    close(trainer)
    assert trainer.losses[-1] < 0.98 * trainer.losses[0]
    assert model.get_output_embeddings().weight.shape == (VOCABULARY + 6, 24)


# ---- Errors on the way ----


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_goes_on_after_an_error_in_backward(accumulation: int, tmp_path: Path) -> None:
    import deepspeed

    case = Case(place=(3, "nvme", "nvme"), model="llama", accumulation=accumulation, is_auto=False)

    def run(fails: bool) -> tuple[list[float], dict[str, Tensor]]:
        folder = tmp_path / f"{fails}"
        folder.mkdir()
        config = ds_config(case, folder) | {"optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "eps": 1e-4}}}
        model = build("llama")
        engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
        losses: list[float] = []
        for update in range(6):
            attempts = [True, False] if fails and update == 3 else [False]
            for stumbles in attempts:
                losses += one_update(engine, update, stumbles)
        engine.destroy()
        return losses, weights_of(model)

    def one_update(engine: Any, update: int, stumbles: bool) -> list[float]:
        losses = []
        for micro in range(accumulation):
            tokens = Sentences().tokens[(update + micro) % 4][None]
            loss = engine(input_ids=tokens, labels=tokens).loss
            if stumbles and micro == accumulation - 1:
                middle = engine.module.model.layers[0].mlp.down_proj.weight
                handle = middle.register_hook(lambda _gradient: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    engine.backward(loss)
                handle.remove()
                return []
            engine.backward(loss)
            engine.step()
            losses.append(loss.item())
        return losses

    smooth, stumbled = run(False), run(True)
    assert stumbled[0] == smooth[0]
    assert same(stumbled[1], smooth[1])


# ---- What is left ----

PATCHABLE = [nn.Module, nn.Linear, nn.Parameter, Tensor, torch, torch.nn.functional, torch.nn.init]
HOOKS = [name for name in dir(nn.modules.module) if name.startswith("_global_")]


def patchable() -> dict[str, Any]:
    """What a runtime may have replaced: every attribute of torch's classes and modules, and of transformers' base."""
    owners = [*PATCHABLE, transformers.PreTrainedModel, transformers.LlamaForCausalLM, transformers.Trainer]
    found = {f"{owner.__name__}.{name}": value for owner in owners for name, value in vars(owner).items()}
    hooks = {name: getattr(nn.modules.module, name) for name in HOOKS}
    return found | {name: dict(value) for name, value in hooks.items() if isinstance(value, dict)}


def test_nothing_stays_patched(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path / "saved")
    (tmp_path / "nvme").mkdir()

    def run(name: str) -> None:
        args = arguments(STORED, tmp_path / name, ds_config(STORED, tmp_path / "nvme"), max_steps=2)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        trainer = Recorder(model=model, args=args, train_dataset=Sentences())
        trainer.train()
        close(trainer)

    run("first")  # what torch and transformers import on the way is theirs
    before = patchable()
    run("second")
    after = patchable()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] is not after[name] and before[name] != after[name]] == []


def _grown(steps: int, folder: Path) -> int:
    """Bytes of resident memory that a trainer gains from its hundredth update to its last."""
    seen: list[int] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (100, steps):
                gc.collect()
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                seen.append(pages * os.sysconf("SC_PAGE_SIZE"))

    trainer = trainer_of(STORED, folder, max_steps=steps, logging_strategy="no")
    trainer.add_callback(Watch())
    trainer.train()
    close(trainer)
    return seen[-1] - seen[0]


def test_memory_does_not_grow(tmp_path: Path) -> None:
    assert _grown(300, tmp_path) < 4 << 20


@pytest.mark.long
def test_memory_does_not_grow_over_thousands_of_updates(tmp_path: Path) -> None:
    assert _grown(2100, tmp_path) < 4 << 20


def test_parameters_without_dimensions_train(tmp_path: Path) -> None:
    import deepspeed

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope, self.rise = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.slope * x + self.rise

    for stage in (2, 3):
        for precision in ("fp16", "bf16"):
            model = Line()
            engine, *_ = deepspeed.initialize(
                model=model,
                config_params={
                    "train_batch_size": 4,
                    precision: {"enabled": True},
                    "optimizer": {"type": "AdamW", "params": {"lr": 0.1}},
                    "zero_optimization": {"stage": stage},
                },
            )
            x = torch.linspace(-1, 1, LENGTH).to(model.slope.dtype)
            for _ in range(60):
                engine.backward((engine(x).float() - (2 * x + 1).float()).square().mean())
                engine.step()
            assert model.slope.item() == pytest.approx(2, abs=0.2)  # outside of any context
            engine.destroy()
