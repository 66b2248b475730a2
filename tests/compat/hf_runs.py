"""What tests of Hugging Face's runtimes train: tiny models, their data, configurations, and the same in plain torch.

A `Case` says how a run is trained. `trained` runs it on the overlay, `expected` with a plain Trainer; their losses are
compared. In 16 bits plain training means what DeepSpeed means by it: parameters of 16 bits with an fp32 master, which
`Masters` is in torch's own operations.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

STEPS = 20
VOCABULARY = 64
LENGTH = 12
WARMUP = 3
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 0.1
EPSILON = 1e-4
"""Not Adam's usual 1e-8, which makes steps of full size from gradients that are nothing but rounding."""

SCALE = 256.0
"""What fp16 losses are multiplied with in plain training, and at first on the overlay."""

# (stage, states, parameters): every place that a configuration can name for them.
PLACES = [
    *((stage, states, "none") for stage in (0, 1, 2) for states in ("none", "cpu", "nvme")),
    *((3, states, parameters) for states in ("none", "cpu", "nvme") for parameters in ("none", "cpu", "nvme")),
]


@dataclasses.dataclass(frozen=True)
class Case:
    """How a run is trained."""

    model: str = "gpt2"
    place: tuple[int, str, str] = (2, "none", "none")
    precision: str = "fp32"
    accumulation: int = 1
    checkpointing: str = "none"
    lora: bool = False
    blocks: str = "none"  # of the configuration: "none", "optimizer", or "both", with a scheduler
    is_auto: bool = True

    @property
    def stage(self) -> int:
        return self.place[0]

    def __str__(self) -> str:
        stage, states, parameters = self.place
        words = [self.model, f"stage{stage}", f"states-{states}", f"parameters-{parameters}", self.precision]
        words += [f"x{self.accumulation}"] if self.accumulation > 1 else []
        words += [self.checkpointing] if self.checkpointing != "none" else []
        words += ["lora"] if self.lora else []
        words += [f"{self.blocks}-block"] if self.blocks != "none" else []
        return " ".join([*words, "auto" if self.is_auto else "written"])


VALUES: dict[str, list[Any]] = {
    "model": ["gpt2", "llama", "t5", "mixtral"],
    "place": PLACES,
    "precision": ["fp32", "bf16", "fp16", "fp16 static"],
    "accumulation": [1, 2],
    "checkpointing": ["none", "reentrant", "non-reentrant"],
    "lora": [False, True],
    "blocks": ["none", "optimizer", "both"],
    "is_auto": [True, False],
}


def covering(seed: int = 0) -> list[Case]:
    """Cases in which every value of `VALUES` meets every value of every other row of it."""
    draw = random.Random(seed)
    names = list(VALUES)
    left = {
        ((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in VALUES[a] for y in VALUES[b]
    }  # pairs that no case has yet

    def pairs(row: dict[str, Any]) -> set[Any]:
        return set(itertools.combinations([(name, row[name]) for name in names], 2))

    cases = []
    while left:
        wanted = min(left, key=repr)
        rows = [{name: draw.choice(VALUES[name]) for name in names} | dict(wanted) for _ in range(60)]
        best = max(rows, key=lambda row: len(left & pairs(row)))
        left -= pairs(best)
        cases.append(Case(**best))
    return cases


def matrix() -> list[Case]:
    """Every combination, those of the configuration's blocks in turn."""
    blocks = itertools.cycle(itertools.product(VALUES["blocks"], VALUES["is_auto"]))
    names = ["model", "place", "precision", "accumulation", "checkpointing", "lora"]
    rows = itertools.product(*(VALUES[name] for name in names))
    return [Case(*row, *written) for row, written in zip(rows, blocks, strict=False)]


def tolerance(case: Case) -> float:
    """The largest relative difference of a loss.

    In fp32 that of two orders of rounding. In 16 bits a master that differs in its last bit now and then rounds to the
    next 16-bit parameter, 2^-8 (bf16) or 2^-11 (fp16) away, and training takes that on. The least that a run learns is
    2.3e-2, of adapters; T5 learns ten times that, and gives its loss itself in 16 bits.
    """
    if case.precision == "fp32":
        return 1e-5
    return 3e-2 if case.model == "t5" else 5e-3


# ---- Models and data ----


def _gpt2() -> nn.Module:
    settings = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=24,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=1,
        eos_token_id=2,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(settings)


_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_DECODER, tie_word_embeddings=True))


def _mixtral() -> nn.Module:
    settings = transformers.MixtralConfig(**_DECODER, num_local_experts=3, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(settings)


def _t5() -> nn.Module:
    settings = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(settings)


_MODELS: dict[str, Callable[[], nn.Module]] = {"gpt2": _gpt2, "llama": _llama, "t5": _t5, "mixtral": _mixtral}
_ADAPTED = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "t5": ["q", "v"], "mixtral": ["q_proj", "v_proj"]}


def build(name: str, lora: bool = False) -> Any:
    """A random model, the same every time."""
    torch.manual_seed(3)
    model = _MODELS[name]()
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=_ADAPTED[name]))
    return model


class Sentences(Dataset[dict[str, Tensor]]):
    """Random tokens that a model can learn by heart."""

    def __init__(self, count: int = 4) -> None:
        tokens = torch.randint(3, VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(5))
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


# ---- On the overlay ----


def ds_config(case: Case, store: Path | None = None) -> dict[str, Any]:
    """The configuration of a case; `store` is its nvme_path."""

    def value(written: Any) -> Any:
        return "auto" if case.is_auto else written

    config: dict[str, Any] = {
        "train_batch_size": value(2 * case.accumulation),
        "train_micro_batch_size_per_gpu": value(2),
        "gradient_accumulation_steps": value(case.accumulation),
        "gradient_clipping": value(1.0),
        "zero_optimization": _zero(case, store),
    }
    if case.precision == "bf16":
        config["bf16"] = {"enabled": value(True)}
    elif case.precision.startswith("fp16"):
        scale = {"loss_scale": SCALE} if "static" in case.precision else {"loss_scale": 0, "initial_scale_power": 8}
        config["fp16"] = {"enabled": value(True), "loss_scale_window": 8, **scale}
    if case.blocks != "none":
        adam = {"lr": LEARNING_RATE, "betas": [0.9, 0.999], "eps": EPSILON, "weight_decay": WEIGHT_DECAY}
        config["optimizer"] = {"type": "AdamW", "params": {name: value(written) for name, written in adam.items()}}
    if case.blocks == "both":
        warmup = {"warmup_min_lr": 0, "warmup_max_lr": LEARNING_RATE, "warmup_num_steps": WARMUP}
        params = {name: value(written) for name, written in (warmup | {"total_num_steps": STEPS}).items()}
        config["scheduler"] = {"type": "WarmupDecayLR", "params": params | {"warmup_type": "linear"}}
    return config


def _zero(case: Case, store: Path | None) -> dict[str, Any]:
    stage, states, parameters = case.place
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": "auto" if case.is_auto else 5e8}
    path = {"nvme_path": str(store)}
    if states != "none":
        zero["offload_optimizer"] = {"device": states, "pin_memory": True} | (path if states == "nvme" else {})
    if parameters != "none":
        zero["offload_param"] = {"device": parameters, "pin_memory": True} | (path if parameters == "nvme" else {})
    if stage == 3:
        zero["stage3_prefetch_bucket_size"] = "auto" if case.is_auto else 1e4
        zero["stage3_param_persistence_threshold"] = "auto" if case.is_auto else 0  # 0: even the smallest move
        zero["stage3_max_live_parameters"] = 1e4
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return zero


def arguments(case: Case, output: Path, config: Any = None, **changes: Any) -> TrainingArguments:
    """The TrainingArguments of a case; `config` is for DeepSpeed."""
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": case.accumulation,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "adam_epsilon": EPSILON,
        "warmup_steps": WARMUP,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": case.checkpointing != "none",
        "deepspeed": config,
    }
    if case.checkpointing != "none":
        settings["gradient_checkpointing_kwargs"] = {"use_reentrant": case.checkpointing == "reentrant"}
    if config is not None:
        settings["bf16"] = case.precision == "bf16"
        settings["fp16"] = case.precision.startswith("fp16")
    with bf16_allowed():
        return TrainingArguments(**settings | changes)


def bf16_allowed() -> Any:
    """As on a GPU: without one transformers accepts bf16=True with use_cpu=True alone, which switches DeepSpeed off."""
    return mock.patch("transformers.training_args.is_torch_bf16_gpu_available", return_value=True)


class Recorder(Trainer):
    """Keeps the loss of every micro-batch that is trained with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        result = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        if model.training:
            self.losses.append((result[0] if return_outputs else result).item())
        return result


def trainer_of(case: Case, folder: Path, model: Any = None, config: Any = None, **changes: Any) -> Recorder:
    """A trainer on the overlay; `changes` are of its arguments. The store is `folder`/nvme."""
    if config is None:
        (folder / "nvme").mkdir(exist_ok=True)
        config = ds_config(case, folder / "nvme")
    args = arguments(case, folder / "out", config, **changes)
    model = build(case.model, case.lora) if model is None else model
    return Recorder(model=model, args=args, train_dataset=Sentences(), eval_dataset=Sentences(6))


def close(trainer: Trainer) -> None:
    """Ends the trainer's engine: its model is an ordinary one again."""
    trainer.model_wrapped.destroy()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of an ordinary model's parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(case: Case, folder: Path) -> list[float]:
    """The losses of a run on the overlay."""
    trainer = trainer_of(case, folder)
    trainer.train()
    close(trainer)
    return trainer.losses


# ---- The same in plain torch ----


class Masters(torch.optim.Optimizer):
    """AdamW over fp32 copies of 16-bit parameters; micro-batches' gradients are summed in fp32, then clipped."""

    def __init__(self, groups: Iterable[dict[str, Any]], scale: float) -> None:
        super().__init__([dict(group) for group in groups], {})
        self._scale = scale
        self._masters: dict[nn.Parameter, Tensor] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                self._masters[parameter] = parameter.detach().float()
                parameter.register_post_accumulate_grad_hook(self._take)
        copies = [{**group, "params": [self._masters[p] for p in group["params"]]} for group in self.param_groups]
        self._adam = torch.optim.AdamW(copies)

    def _take(self, parameter: nn.Parameter) -> None:
        master = self._masters[parameter]
        gradient = parameter.grad.float() / self._scale
        master.grad = gradient if master.grad is None else master.grad + gradient
        parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for ours, theirs in zip(self.param_groups, self._adam.param_groups, strict=True):
            theirs["lr"] = ours["lr"]
        nn.utils.clip_grad_norm_(self._masters.values(), 1.0)
        self._adam.step()
        self._adam.zero_grad()
        for parameter, master in self._masters.items():
            parameter.copy_(master)


class Plain(Recorder):
    """The Trainer without DeepSpeed; `schedule` says the share of the learning rate, where it is not the Trainer's."""

    precision = "fp32"
    decays_all = False  # as with an optimizer block, whose parameters Trainer does not divide into groups
    schedule: Callable[[int], float] | None = None

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        super().create_optimizer(*args, **kwargs)
        for group in self.optimizer.param_groups if self.decays_all else []:
            group["weight_decay"] = WEIGHT_DECAY
        if self.precision != "fp32" and not isinstance(self.optimizer, Masters):
            self.optimizer = Masters(self.optimizer.param_groups, SCALE if "fp16" in self.precision else 1.0)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.schedule is not None and self.lr_scheduler is None:
            target = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(target, self.schedule)
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        result = super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        if "fp16" in self.precision and model.training:
            loss = result[0] if return_outputs else result
            loss.register_hook(lambda gradient: gradient * SCALE)
        return result


def warmup_decay(update: int) -> float:
    """DeepSpeed's WarmupDecayLR, linear, as a share of the largest learning rate."""
    step = max(update - 1, 0)
    if step < WARMUP:
        return step / WARMUP
    return max(0.0, (STEPS - step) / (STEPS - WARMUP))


def plain_trainer(case: Case, folder: Path, **changes: Any) -> Plain:
    """What a case is compared with: nothing is recomputed, and everything is in memory."""
    clipped = {"max_grad_norm": 1.0 if case.precision == "fp32" else 0.0}  # Masters clip themselves
    simple = dataclasses.replace(case, checkpointing="none")
    model = build(case.model, case.lora).to(
        {"fp32": torch.float32, "bf16": torch.bfloat16}.get(case.precision, torch.half)
    )
    trainer = Plain(
        model=model,
        args=arguments(simple, folder / "plain", **clipped | changes),
        train_dataset=Sentences(),
        eval_dataset=Sentences(6),
    )
    trainer.precision = case.precision
    trainer.decays_all = case.blocks != "none"
    trainer.schedule = warmup_decay if case.blocks == "both" else None
    return trainer


@functools.cache
def _expected(case: Case) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = plain_trainer(case, Path(folder))
        trainer.train()
    return tuple(trainer.losses)


def expected(case: Case) -> list[float]:
    """The losses of the same run in plain torch, kept for the cases that share it.

    To be asked before a run on the overlay: a process in which Accelerate has used DeepSpeed goes on with it.
    """
    precision = "fp16" if case.precision == "fp16 static" else case.precision
    shared = Case(
        model=case.model, precision=precision, accumulation=case.accumulation, lora=case.lora, blocks=case.blocks
    )
    return list(_expected(shared))
