"""Loops of one's own with Hugging Face's Accelerator: the losses are those without DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DummyOptim, DummyScheduler
from hf_runs import EPSILON, LEARNING_RATE, PLACES, STEPS, WARMUP, Sentences, build, same, warmup_decay, weights_of
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

HYPER: dict[str, Any] = {"lr": LEARNING_RATE, "eps": EPSILON, "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def plugin(place: tuple[int, str, str], folder: Path, accumulation: int = 1, **changes: Any) -> DeepSpeedPlugin:
    """As `accelerate config` asks for it."""
    stage, states, parameters = place
    return DeepSpeedPlugin(
        zero_stage=stage,
        offload_optimizer_device=states,
        offload_param_device=parameters,
        offload_optimizer_nvme_path=str(folder),
        offload_param_nvme_path=str(folder),
        gradient_accumulation_steps=accumulation,
        gradient_clipping=1.0,
        zero3_save_16bit_model=True,
        zero3_init_flag=False,
        **changes,
    )


def file_config(**changes: Any) -> dict[str, Any]:
    """A configuration in a file, "auto" where Accelerator fills in."""
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 1,
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": 3,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": "auto",
            "offload_optimizer": {"device": "cpu"},
        },
        **changes,
    }


BLOCK = {"optimizer": {"type": "AdamW", "params": {"lr": "auto", "eps": EPSILON, "weight_decay": "auto"}}}
SCHEDULE = {
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": {
            "warmup_min_lr": "auto",
            "warmup_max_lr": "auto",
            "warmup_num_steps": "auto",
            "total_num_steps": "auto",
            "warmup_type": "linear",
        },
    }
}


def batches() -> DataLoader[dict[str, Tensor]]:
    return DataLoader(Sentences(), batch_size=2)


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def train(accelerator: Accelerator, prepared: tuple[Any, ...], updates: int = STEPS) -> list[float]:
    """The loop that Accelerate's guide shows."""
    model, optimizer, loader, schedule = prepared
    losses: list[float] = []
    done = 0
    model.train()
    for batch in endless(loader):
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        done += accelerator.sync_gradients
        if done == updates:
            return losses
    raise AssertionError


def parts(name: str) -> tuple[Any, ...]:
    model = build(name)
    optimizer = torch.optim.AdamW(model.parameters(), **HYPER)
    return model, optimizer, batches(), get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)


def plain(name: str, accumulation: int = 1) -> list[float]:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    losses = train(accelerator, accelerator.prepare(*parts(name)))
    forget_accelerator()
    return losses


def forget_accelerator() -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    ("name", "place"), list(zip(["gpt2", "llama", "t5", "mixtral"] * 5, PLACES, strict=False)), ids=str
)
def test_losses_are_those_without_deepspeed(name: str, place: Any, accumulation: int, tmp_path: Path) -> None:
    want = plain(name, accumulation)
    accelerator = Accelerator(deepspeed_plugin=plugin(place, tmp_path, accumulation))
    prepared = accelerator.prepare(*parts(name))
    assert train(accelerator, prepared) == pytest.approx(want, rel=1e-5)
    assert prepared[0].global_steps == STEPS
    prepared[0].destroy()


def test_gradients_are_clipped_without_being_asked_to(tmp_path: Path) -> None:
    """A configuration without gradient_clipping clips at 1, as DeepSpeed's does."""
    config = {name: value for name, value in file_config(**BLOCK).items() if name != "gradient_clipping"}
    accelerator = Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config))
    model = build("gpt2")
    model, _, loader = accelerator.prepare(model, DummyOptim(model.parameters(), **HYPER), batches())
    for batch in loader:
        accelerator.backward(100 * model(**batch).loss)
    assert model.get_global_grad_norm() > 1
    assert model.last_report.clip_factor == pytest.approx(1 / model.get_global_grad_norm(), rel=1e-3)
    model.destroy()


@pytest.mark.parametrize("has_schedule", [False, True])
def test_optimizers_and_schedulers_of_the_configuration_drive_the_run(has_schedule: bool, tmp_path: Path) -> None:
    reference = build("llama")
    client = torch.optim.AdamW(reference.parameters(), **HYPER)
    follow = warmup_decay if has_schedule else linear
    schedule = torch.optim.lr_scheduler.LambdaLR(client, follow)
    accelerator = Accelerator(cpu=True)
    want = train(accelerator, accelerator.prepare(reference, client, batches(), schedule))
    forget_accelerator()

    config = file_config(**BLOCK, **(SCHEDULE if has_schedule else {}))
    accelerator = Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config))
    model = build("llama")
    dummy = DummyOptim(model.parameters(), **HYPER)
    if has_schedule:
        planned = DummyScheduler(dummy, total_num_steps=STEPS, warmup_num_steps=WARMUP)
    else:
        planned = DummyScheduler(dummy, lr_scheduler_callable=lambda to: torch.optim.lr_scheduler.LambdaLR(to, linear))
    prepared = accelerator.prepare(model, dummy, batches(), planned)
    assert train(accelerator, prepared) == pytest.approx(want, rel=1e-5)
    prepared[0].destroy()


def linear(update: int) -> float:
    return 1 - update / (2 * STEPS)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_what_fp32_learns(precision: str, tmp_path: Path) -> None:
    """Beside training in fp32, not in 16 bits: what a user sees who switches it on."""
    want = plain("llama")
    accelerator = Accelerator(mixed_precision=precision, deepspeed_plugin=plugin((3, "cpu", "none"), tmp_path))
    prepared = accelerator.prepare(*parts("llama"))
    assert train(accelerator, prepared) == pytest.approx(want, rel=5e-3)
    assert next(prepared[0].parameters()).dtype is {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    prepared[0].destroy()


@pytest.mark.parametrize("place", [(2, "cpu", "none"), (3, "nvme", "nvme")], ids=str)
def test_a_saved_state_goes_on_exactly(place: Any, tmp_path: Path) -> None:
    def prepared() -> tuple[Accelerator, tuple[Any, ...]]:
        forget_accelerator()
        accelerator = Accelerator(mixed_precision="bf16", deepspeed_plugin=plugin(place, tmp_path))
        return accelerator, accelerator.prepare(*parts("llama"))

    accelerator, first = prepared()
    train(accelerator, first, 6)
    accelerator.save_state(str(tmp_path / "state"))
    want = train(accelerator, first, 6)
    first[0].destroy()
    accelerator, second = prepared()
    accelerator.load_state(str(tmp_path / "state"))
    assert train(accelerator, second, 6) == want
    second[0].destroy()
    assert same(weights_of(second[0].module), weights_of(first[0].module))


@pytest.mark.parametrize("place", [(2, "none", "none"), (3, "nvme", "nvme")], ids=str)
def test_saved_models_are_read_by_from_pretrained(place: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    accelerator = Accelerator(deepspeed_plugin=plugin(place, tmp_path))
    model, *rest = accelerator.prepare(*parts("gpt2"))
    train(accelerator, (model, *rest), 3)
    accelerator.unwrap_model(model).save_pretrained(
        tmp_path / "pretrained",
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    accelerator.save_model(model, tmp_path / "model")
    model.destroy()
    weights = weights_of(model.module)
    unset_hf_deepspeed_config()  # or what is read would be built for stage 3, and empty outside of its forward
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "pretrained")
    assert same(weights_of(read), weights)
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_mixture_of_experts_is_a_leaf(tmp_path: Path) -> None:
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    want = plain("mixtral")
    leaves = plugin((3, "nvme", "nvme"), tmp_path, transformer_moe_cls_names="MixtralSparseMoeBlock")
    accelerator = Accelerator(deepspeed_plugin=leaves)
    prepared = accelerator.prepare(*parts("mixtral"))
    blocks = [module for module in prepared[0].modules() if isinstance(module, MixtralSparseMoeBlock)]
    assert blocks and all(block._z3_leaf for block in blocks)
    assert train(accelerator, prepared) == pytest.approx(want, rel=1e-5)
    prepared[0].destroy()
