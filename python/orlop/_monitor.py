"""The monitors that the configuration names: TensorBoard, Weights & Biases, CSV files; through their own libraries.

After every update each gets the events that DeepSpeed's give: Train/Samples/train_loss, lr, loss_scale (fp16) and
grad_norm, over the number of samples seen.
"""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any, Protocol

from .config import Config
from .errors import ConfigError

Events = list[tuple[str, float, int]]  # name, value, samples


class Monitor(Protocol):
    """Somewhere events go."""

    def write(self, events: Events) -> None:
        """Takes the events of one update."""

    def close(self) -> None:
        """Nothing follows."""


class CsvMonitor:
    """One file for each name, as `<output_path>/<job_name>/Train_Samples_lr.csv`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = _folder(settings, "csv_monitor")
        self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, events: Events) -> None:
        for name, value, samples in events:
            column = name.replace("/", "_")
            path = self._folder / f"{column}.csv"
            is_new = not path.exists()
            with path.open("a", newline="") as file:
                rows = csv.writer(file)
                if is_new:
                    rows.writerow(["step", column])
                rows.writerow([samples, value])

    def close(self) -> None:
        pass


class TensorBoardMonitor:
    """Event files in `<output_path>/<job_name>`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        library = _library("tensorboard", "torch.utils.tensorboard", "tensorboard")
        self._writer = library.SummaryWriter(log_dir=str(_folder(settings, "tensorboard")))

    def write(self, events: Events) -> None:
        for name, value, samples in events:
            self._writer.add_scalar(name, value, samples)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbMonitor:
    """A run of Weights & Biases in the project, group and team that the configuration names."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._run = _library("wandb", "wandb", "wandb").init(
            project=settings.get("project", "deepspeed"), group=settings.get("group"), entity=settings.get("team")
        )

    def write(self, events: Events) -> None:
        for name, value, samples in events:
            self._run.log({name: value}, step=samples)

    def close(self) -> None:
        self._run.finish()


_KINDS: dict[str, type[CsvMonitor] | type[TensorBoardMonitor] | type[WandbMonitor]] = {
    "csv_monitor": CsvMonitor,
    "tensorboard": TensorBoardMonitor,
    "wandb": WandbMonitor,
}


def monitors_of(config: Config) -> list[Monitor]:
    """Those that are enabled. Raises ConfigError when one's library is not installed."""
    blocks = {name: config.get(name) or {} for name in _KINDS}
    return [kind(blocks[name]) for name, kind in _KINDS.items() if blocks[name].get("enabled")]


def _folder(settings: dict[str, Any], kind: str) -> Path:
    base = Path(settings["output_path"]) if settings.get("output_path") else Path.home() / kind
    return base / str(settings.get("job_name", "DeepSpeedJobName"))


def _library(key: str, module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f'config: on "{key}": the package {package} is not installed: pip install {package}'
        ) from None
