"""How programs find Orlop under DeepSpeed's names: `orlop run`, `orlop compat`, `orlop.compat.activate`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orlop
import pytest
from orlop.cli.main import main
from orlop.compat import activate
from orlop.compat._overlay import OVERLAY, default_version

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = default_version()

# What a program can know of deepspeed without importing it: one line of JSON.
LOOK = """
import importlib.metadata, importlib.util, json, os, sys
spec = importlib.util.find_spec("deepspeed")
try:
    version, summary = importlib.metadata.version("deepspeed"), importlib.metadata.metadata("deepspeed")["Summary"]
except importlib.metadata.PackageNotFoundError:
    version, summary = None, None
found = {"origin": spec and spec.origin, "version": version, "summary": summary, "arguments": sys.argv[1:]}
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
found |= {name: os.environ.get(name) for name in names}
found |= {"python": sys.prefix, "name": __name__}
if __name__ == "__main__":
    sys.stdout.write(json.dumps(found) + chr(10))
"""

# The same, asked for by children of every kind.
CHILDREN = f"""
import multiprocessing, subprocess, sys
LOOK = {LOOK!r}
def child():
    exec(LOOK, {{"__name__": "__main__"}})
if __name__ == "__main__":
    child()
    for kind in ("spawn", "fork"):
        process = multiprocessing.get_context(kind).Process(target=child)
        process.start()
        process.join()
    subprocess.run([sys.executable, "-c", LOOK], check=True)
"""

HUGGING_FACE = """
import accelerate, transformers, json
from accelerate.utils.versions import compare_versions
from transformers.integrations import deepspeed as integration
print(json.dumps({
    "transformers": integration.is_deepspeed_available(), "accelerate": accelerate.utils.is_deepspeed_available(),
    "base": integration.HfDeepSpeedConfig.__mro__[1] is not object,
    "checks": [compare_versions("deepspeed", ">=", v) for v in ("0.9.3", "0.14.4", "0.16.4", "0.18.2")],
    "at most": compare_versions("deepspeed", "<=", "0.16.9"),
}))
integration.HfDeepSpeedConfig({"train_batch_size": 1})
import deepspeed
assert deepspeed.__version__.endswith("+orlop") and deepspeed.__orlop__
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Orlop keeps what it can make again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def environment(**changes: str) -> dict[str, str]:
    """Of a program that has Orlop, and no overlay on its path."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return kept | {"PYTHONPATH": str(ROOT / "python")} | changes


NOT_INHERITED = {"PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def script(folder: Path, text: str, name: str = "train.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def ran(*command: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """`python -m orlop COMMAND`."""
    words = [sys.executable, "-m", "orlop", *map(str, command)]
    return subprocess.run(words, text=True, capture_output=True, env=environment(**changes), timeout=300)


def commands(python: Path, *each: list[str]) -> subprocess.CompletedProcess[str]:
    """Several commands of `orlop` in one process, which ends with the last one's status."""
    text = f"import sys\nfrom orlop.cli.main import main\nsys.exit([main(words) for words in {each!r}][-1])"
    return subprocess.run([python, "-c", text], text=True, capture_output=True, env=environment(), timeout=300)


def looks(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def is_overlay(found: dict[str, Any], version: str = DEFAULT) -> bool:
    assert found["summary"] is None or "not DeepSpeed" in found["summary"]
    return (found["origin"], found["version"]) == (str(OVERLAY / "deepspeed" / "__init__.py"), version)


def test_it_is_found_by_every_way_to_ask() -> None:
    import accelerate.utils
    import deepspeed
    from transformers.integrations.deepspeed import is_deepspeed_available

    assert importlib.util.find_spec("deepspeed").origin == str(OVERLAY / "deepspeed" / "__init__.py")  # type: ignore[union-attr]
    assert importlib.metadata.version("deepspeed") == deepspeed.__version__ == DEFAULT
    assert "not DeepSpeed" in importlib.metadata.metadata("deepspeed")["Summary"]
    assert deepspeed.__orlop__ == orlop.__version__
    assert is_deepspeed_available() and accelerate.utils.is_deepspeed_available()


TRAINER = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
config = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
          "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
arguments = TrainingArguments(output_dir="out", deepspeed=config, per_device_train_batch_size=2, max_steps=2,
                              report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1)
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=64, n_positions=16))
tokens = torch.arange(8)
trainer = Trainer(model, arguments, train_dataset=[{"input_ids": tokens, "labels": tokens}] * 4)
trainer.train()
print("trained by", type(trainer.deepspeed).__module__, trainer.state.global_step, torch.distributed.get_world_size())
"""


def test_a_trainer_needs_no_launcher(tmp_path: Path) -> None:
    overlay = os.pathsep.join([str(OVERLAY), str(ROOT / "python")])
    done = subprocess.run(
        [sys.executable, script(tmp_path, TRAINER)],
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env=environment(PYTHONPATH=overlay),
    )
    assert "trained by deepspeed.runtime.engine 2 1" in done.stdout, done.stderr


# ---- orlop run ----


def test_run_gives_a_script_and_its_children_the_overlay(tmp_path: Path) -> None:
    found = looks(ran("run", script(tmp_path, CHILDREN)))
    assert len(found) == 4 and all(is_overlay(each) for each in found)
    first = found[0]
    assert [first[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")] == ["0", "0", "1", "1"]
    assert first["MASTER_ADDR"] == "127.0.0.1" and int(first["MASTER_PORT"]) > 0


def test_run_leaves_what_a_launcher_has_set(tmp_path: Path) -> None:
    (found,) = looks(ran("run", "python", script(tmp_path, LOOK), "--lr", "1", MASTER_PORT="1234", RANK="0"))
    assert (found["MASTER_PORT"], found["WORLD_SIZE"], found["arguments"]) == ("1234", "1", ["--lr", "1"])


@pytest.mark.parametrize(("status", "ends"), [(7, "raise SystemExit(7)"), (-9, "import os; os.kill(os.getpid(), 9)")])
def test_run_ends_as_the_script_does(tmp_path: Path, status: int, ends: str) -> None:
    assert ran("run", script(tmp_path, ends)).returncode == status


def test_run_is_the_script_for_signals(tmp_path: Path) -> None:
    waits = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(11))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-m", "orlop", "run", str(script(tmp_path, waits))]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 11


def test_run_claims_another_version(tmp_path: Path, cache: Path) -> None:
    text = LOOK + HUGGING_FACE
    found, checks = looks(ran("run", "--deepspeed-version", "0.16.8", script(tmp_path, text)))
    assert is_overlay(found, "0.16.8+orlop")
    assert checks == {
        "transformers": True,
        "accelerate": True,
        "base": True,
        "checks": [True, True, True, False],
        "at most": True,
    }
    assert "0.16.8+orlop" in "".join(map(str, cache.rglob("METADATA")))


def test_run_starts_launchers_of_this_environment(tmp_path: Path) -> None:
    done = ran(
        "run", "torchrun", "--standalone", "--nproc-per-node=1", script(tmp_path, LOOK), "x", PATH="/usr/bin:/bin"
    )
    (found,) = looks(done)
    assert is_overlay(found) and found["arguments"] == ["x"] and found["python"] == sys.prefix
    assert (found["RANK"], found["WORLD_SIZE"]) == ("0", "1")


# As `accelerate config` writes it for DeepSpeed on one machine.
ACCELERATE = """
compute_environment: LOCAL_MACHINE
debug: false
deepspeed_config:
  gradient_accumulation_steps: 1
  gradient_clipping: 1.0
  offload_optimizer_device: cpu
  offload_param_device: none
  zero3_init_flag: false
  zero_stage: 2
distributed_type: DEEPSPEED
downcast_bf16: 'no'
enable_cpu_affinity: false
machine_rank: 0
main_training_function: main
mixed_precision: bf16
num_machines: 1
num_processes: 1
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""

ACCELERATED = (
    LOOK
    + """
from accelerate import Accelerator
accelerator = Accelerator()
print(json.dumps({"kind": str(accelerator.distributed_type), "stage": accelerator.state.deepspeed_plugin.zero_stage}))
"""
)


def test_run_starts_accelerate_with_its_configuration(tmp_path: Path) -> None:
    home = tmp_path / "accelerate"
    home.mkdir()
    config = home / "default_config.yaml"
    config.write_text(ACCELERATE)
    command = ["run", "accelerate", "launch", f"--config_file={config}", "--main_process_port=0"]
    found, state = looks(ran(*command, script(tmp_path, ACCELERATED), "x"))
    assert is_overlay(found) and found["arguments"] == ["x"]
    assert state == {"kind": "DistributedType.DEEPSPEED", "stage": 2}


def test_run_has_the_deepspeed_command(tmp_path: Path) -> None:
    file = script(tmp_path, LOOK)
    (found,) = looks(ran("run", "deepspeed", "--num_gpus=1", "--no_local_rank", file, "x"))
    assert is_overlay(found) and found["arguments"] == ["x"] and found["python"] == sys.prefix
    refused = ran("run", "deepspeed", "--num_gpus=4", file)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("deepspeed: launch: on 4 ranks: this version trains on one rank")
    assert len(refused.stderr.splitlines()) == 1


def test_run_refuses_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(script(tmp_path, LOOK))
    for arguments, sentence in (
        (["--np", "4", file], "orlop: run: on 4 ranks: this version trains on one rank; leave --np out\n"),
        (["none.py"], "orlop: run: on none.py: there is no such script and no such command\n"),
        (
            ["--deepspeed-version", "new", file],
            'orlop: deepspeed version: "new": must be three numbers, as in "0.19.8"\n',
        ),
    ):
        assert main(["run", *arguments]) == 1
        assert capsys.readouterr().err == sentence


# ---- orlop.compat.activate ----


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in an interpreter that has neither the overlay on its path nor imported what looks for it."""
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry != str(OVERLAY)])
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    for name in ("deepspeed", "transformers", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return monkeypatch


def test_activate_is_for_this_process_and_its_children(fresh: pytest.MonkeyPatch) -> None:
    activate("0.16.8")
    activate("0.16.8")
    assert importlib.metadata.version("deepspeed") == "0.16.8+orlop"
    assert sys.path[1] == str(OVERLAY) and sys.path.count(str(OVERLAY)) == 1
    assert os.environ["PYTHONPATH"].endswith(f"{OVERLAY}{os.pathsep}/somewhere")
    done = subprocess.run([sys.executable, "-c", LOOK], text=True, capture_output=True)
    (found,) = looks(done)
    assert is_overlay(found, "0.16.8+orlop")
    activate("0.16.8+orlop")


@pytest.mark.parametrize("name", ["deepspeed", "transformers", "accelerate"])
def test_activate_says_that_it_is_too_late(fresh: pytest.MonkeyPatch, name: str) -> None:
    fresh.setitem(sys.modules, name, json)  # any module
    with pytest.raises(orlop.OutOfOrderError, match=f"activate: {name} has been imported"):
        activate()
    assert str(OVERLAY) not in sys.path


def test_activate_refuses_what_is_no_version(fresh: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        activate("latest")


# ---- orlop compat ----


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment of its own, with this one's packages."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (own,) = Path(sys.prefix).glob("lib/python*/site-packages")
    (site / "packages-from-there.pth").write_text(f"{own}\n")
    return folder


def in_venv(venv: Path, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """With nothing on the path but the environment's own."""
    kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    return subprocess.run(
        [venv / "bin" / program, *map(str, arguments)], text=True, capture_output=True, env=kept, timeout=300
    )


def files_of(venv: Path) -> set[Path]:
    return {path for path in venv.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_an_environment_is_enabled_and_disabled(venv: Path, tmp_path: Path) -> None:
    python, before, file = venv / "bin" / "python", files_of(venv), script(tmp_path, LOOK)
    assert not any(is_overlay(found) for found in looks(in_venv(venv, "python", file)))
    enabled = commands(python, ["compat", "enable"])
    assert enabled.returncode == 0 and "orlop-compat.pth" in enabled.stdout, enabled.stderr
    (found,) = looks(in_venv(venv, "python", file))
    assert is_overlay(found)
    (found,) = looks(in_venv(venv, "deepspeed", "--num_gpus=1", "--no_local_rank", file, "x"))
    assert is_overlay(found) and found["arguments"] == ["x"] and found["python"] == str(venv)
    assert "this is not DeepSpeed" in in_venv(venv, "ds_report").stdout
    another = commands(python, ["compat", "status"], ["compat", "enable", "--deepspeed-version", "0.16.8"])
    assert another.returncode == 0, another.stderr
    assert f"deepspeed found     {DEFAULT}\n" in another.stdout and "bin/ds_report" in another.stdout
    (found,) = looks(in_venv(venv, "python", file))
    assert is_overlay(found, "0.16.8+orlop")
    assert commands(python, ["compat", "disable"]).returncode == 0
    assert files_of(venv) == before


def test_an_installed_deepspeed_is_hidden_only_on_demand(venv: Path, tmp_path: Path) -> None:
    python, file = venv / "bin" / "python", script(tmp_path, LOOK)
    (site,) = venv.glob("lib/python*/site-packages")
    for name, text in {
        "deepspeed/__init__.py": "",
        "deepspeed-0.18.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: deepspeed\nVersion: 0.18.0\n",
        "../../../bin/deepspeed": "#!/bin/sh\necho another\n",
    }.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    before = files_of(venv)
    refused = commands(python, ["compat", "enable"])
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "DeepSpeed 0.18.0" in refused.stderr and ".pth" in refused.stderr and "--shadow" in refused.stderr
    assert files_of(venv) == before
    assert commands(python, ["compat", "enable", "--shadow"]).returncode == 0
    (found,) = looks(in_venv(venv, "python", file))
    assert is_overlay(found)
    assert "another" in (venv / "bin" / "deepspeed").read_text()
    undone = commands(python, ["compat", "status"], ["compat", "disable"])
    assert undone.returncode == 0 and "DeepSpeed installed 0.18.0" in undone.stdout
    assert files_of(venv) == before
    (found,) = looks(in_venv(venv, "python", file))
    assert found["version"] == "0.18.0"
