"""`orlop report`: a profile as one HTML page that needs nothing else."""

from __future__ import annotations

import argparse
import html
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._text import size
from ..errors import CorruptError, NotFoundError, UnsupportedError
from ..report import PROFILE_FILE

_COLORS = {
    "forward": "#3b6ea5",
    "backward": "#7aa6d1",
    "Adam": "#5a9367",
    "exposed I/O": "#c8553d",
    "other update": "#b9b4a7",
    "checkpoint": "#8e6c8a",
    "outside": "#d9d5c9",
}
_DRIVE_TBW = 600  # terabytes a common 1 TB drive is rated to have written


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    report = commands.add_parser(
        "report",
        help="make a page of what a run did and what limits it",
        description='Reads the profile that "orlop": {"profile": "FILE"} or DEEPSPEED_PROFILE=1 writes, and makes one '
        "HTML page: loss, where the time of a step goes, the drive beside its roof, memory beside its budget, and what "
        "to change first.",
    )
    report.add_argument(
        "profile", type=Path, metavar="RUN", help=f"the profile, or a directory with {PROFILE_FILE} in it"
    )
    report.add_argument("--out", type=Path, help="the page (beside the profile, .html)")
    report.add_argument(
        "--tbw", type=float, default=_DRIVE_TBW, help=f"terabytes the drive is rated for ({_DRIVE_TBW})"
    )
    report.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop report`."""
    given: Path = chosen.profile
    path = given / PROFILE_FILE if given.is_dir() else given
    out = chosen.out or path.with_suffix(".html")
    profile = Profile(_read(path))
    out.write_text(page(profile, chosen.tbw), encoding="utf-8")
    print(f"wrote {out}: {profile.verdict()[0]}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise NotFoundError(
            f'report: on {path}: there is none; train with "orlop": {{"profile": "FILE"}} first'
        ) from None
    except ValueError as error:
        raise CorruptError(f"report: on {path}: it is no profile: {error}") from None
    if not isinstance(content, dict) or content.get("format") != 1:
        raise CorruptError(f"report: on {path}: it is no profile of this version")
    if not content["steps"]:
        raise NotFoundError(f"report: on {path}: the run ended before its first update")
    return content


@dataclass
class Profile:
    """A profile, and what is computed from it."""

    content: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The first update has no reads ahead of it: it is left out where there are others."""
        steps: list[dict[str, Any]] = self.content["steps"]
        return steps[1:] if len(steps) > 1 else steps

    def parts(self, step: dict[str, Any]) -> dict[str, float]:
        """Where one update's wall time went; the parts add up to it."""
        phases = step["phases"]
        update = phases["update"]
        exposed = min(step["exposed_io"], update)
        adam = min(step["adam"], update - exposed)
        computing = phases["forward"] + phases["backward"]
        waited = min(step.get("unit_wait", 0.0), computing)  # in which of the two is not known
        computed = 1 - waited / computing if computing else 1.0
        return {
            "forward": computed * phases["forward"],
            "backward": computed * phases["backward"],
            "Adam": adam,
            "exposed I/O": exposed + waited,
            "other update": update - exposed - adam,
            "checkpoint": phases["checkpoint"],
            "outside": phases["outside"],
        }

    def shares(self) -> dict[str, float]:
        """Of the wall time of all updates."""
        total = sum(step["seconds"] for step in self.steps)
        parts = [self.parts(step) for step in self.steps]
        return {name: sum(part[name] for part in parts) / total for name in _COLORS}

    def verdict(self) -> tuple[str, str]:
        """What limits the run, and the one change that would help most."""
        shares = self.shares()
        computing = shares["forward"] + shares["backward"]
        rivals = {
            "exposed I/O": shares["exposed I/O"],
            "Adam": shares["Adam"],
            "computing": computing,
            "outside": shares["outside"],
            "checkpoint": shares["checkpoint"],
        }
        worst = max(rivals, key=lambda name: rivals[name])
        return _VERDICTS[worst](self, rivals[worst])

    def roof(self) -> tuple[float, float] | None:
        """GB/s that the drives together were measured to read and write; None without a store."""
        drives = self.calibrations()
        return (sum(d["read_gb_s"] for d in drives), sum(d["write_gb_s"] for d in drives)) if drives else None

    def calibrations(self) -> list[dict[str, Any]]:
        """What was measured of each drive alone; none without a store."""
        states = self.content["engine"].get("states", {})
        return [drive["calibration"] for drive in states.get("drives", [])]

    def drives(self) -> list[dict[str, Any]]:
        """What each drive has moved."""
        found: list[dict[str, Any]] = self.content["engine"].get("nvme", {}).get("by_drive", [])
        return found


def _drive(profile: Profile, share: float) -> tuple[str, str]:
    doubled = share / (2 - share - profile.shares()["Adam"])
    states = size(profile.steps[-1]["nvme_read_bytes"])
    return (
        f"the drive: {share:.0%} of the time is spent waiting for optimizer states",
        f"An update moves the same bytes however many micro-batches it has: twice the gradient_accumulation_steps "
        f'brings the waiting to about {doubled:.0%}. Or keep the states in memory (offload_optimizer.device "cpu"): '
        f"that takes {states} of it. Or use a faster drive.",
    )


def _arithmetic(profile: Profile, share: float) -> tuple[str, str]:
    kernels = profile.content["engine"]["kernels"]
    return (
        f"the optimizer's arithmetic on the host: {share:.0%} of the time",
        f"It runs with {kernels['threads']} threads of {kernels['isa']} kernels and is bound by memory: more cores and "
        "memory channels help, or more micro-batches per update (gradient_accumulation_steps).",
    )


def _computing(profile: Profile, share: float) -> tuple[str, str]:
    return (
        f"the model's own forward and backward: {share:.0%} of the time",
        "Offloading costs little here. A faster device, a lower precision or larger micro-batches would help.",
    )


def _program(profile: Profile, share: float) -> tuple[str, str]:
    return (
        f"the program outside the engine: {share:.0%} of the time",
        "Data loading, evaluation or logging: load batches ahead (DataLoader workers), evaluate less often.",
    )


def _saving(profile: Profile, share: float) -> tuple[str, str]:
    return (
        f"checkpoints: {share:.0%} of the time",
        'Save them behind the training ("orlop": {"checkpoint": {"background": true}}), or less often.',
    )


_VERDICTS: dict[str, Callable[[Profile, float], tuple[str, str]]] = {
    "exposed I/O": _drive,
    "Adam": _arithmetic,
    "computing": _computing,
    "outside": _program,
    "checkpoint": _saving,
}


# ---- The page ----


def page(profile: Profile, tbw: float) -> str:
    """The whole page as text."""
    what, change = profile.verdict()
    sections = [
        ("Loss", _loss_chart(profile)),
        ("Where the time of an update goes", _time_chart(profile)),
        ("Memory beside its budget", _memory_table(profile)),
        ("Configuration", _config_table(profile)),
    ]
    if profile.roof() is not None:
        sections[2:2] = [("The drive beside its roof", _drive_chart(profile)), ("Wear", _wear(profile, tbw))]
    body = "\n".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    return _PAGE.format(what=html.escape(what), change=html.escape(change), tiles=_tiles(profile), body=body)


def _tiles(profile: Profile) -> str:
    stats = profile.content["stats"]
    steps = profile.steps
    seconds = sum(step["seconds"] for step in steps) / len(steps)
    facts = [
        (f"{stats['params'] / 1e6:,.1f} M", "trained parameters"),
        (f"{profile.content['steps'][-1]['step']}", "updates"),
        (f"{seconds:.3g} s", "an update"),
        (f"{profile.shares()['exposed I/O']:.1%}", "waiting for the drive"),
    ]
    return "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in facts)


def _svg(draw: Callable[[Any], None], height: float = 2.6) -> str:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "report: matplotlib is missing, which draws the charts: pip install matplotlib"
        ) from None
    figure = Figure(figsize=(8.6, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _loss_chart(profile: Profile) -> str:
    known = [step for step in profile.content["steps"] if step["loss"] is not None]
    if not known:
        return "<p>No loss went through engine.backward.</p>"

    def draw(axes: Any) -> None:
        axes.plot([step["step"] for step in known], [step["loss"] for step in known], color="#3b6ea5", linewidth=1.4)
        for step in known:
            if step["skipped"]:
                axes.axvline(step["step"], color="#c8553d", linewidth=0.6)
        axes.set_xlabel("update" + (", skipped ones red" if any(step["skipped"] for step in known) else ""))
        axes.set_ylabel("loss")

    return _svg(draw)


def _time_chart(profile: Profile) -> str:
    steps = profile.steps
    parts = [profile.parts(step) for step in steps]

    def draw(axes: Any) -> None:
        numbers = [step["step"] for step in steps]
        if len(numbers) == 1:
            numbers, doubled = [numbers[0] - 0.5, numbers[0] + 0.5], [parts[0]] * 2
        else:
            doubled = parts
        axes.stackplot(
            numbers,
            *([part[name] for part in doubled] for name in _COLORS),
            labels=list(_COLORS),
            colors=_COLORS.values(),
        )
        axes.set_xlabel("update")
        axes.set_ylabel("seconds")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, reverse=True)

    shares = profile.shares()
    hidden = sum(step["hidden_io"] for step in steps) / sum(step["seconds"] for step in steps)
    rows = "".join(
        f'<tr><td><i style="background:{color}"></i>{name}</td><td class="n">{shares[name]:.1%}</td></tr>'
        for name, color in _COLORS.items()
    )
    note = (
        f"<p>The drive was also busy behind other work during {hidden:.0%} of the time: hidden I/O costs nothing.</p>"
    )
    return f"{_svg(draw, 3.2)}<table>{rows}</table>{note}"


def _drive_chart(profile: Profile) -> str:
    def busy(step: dict[str, Any]) -> float:
        return float(step["exposed_io"] + step["hidden_io"] + step.get("unit_wait", 0.0))

    steps = [step for step in profile.steps if busy(step) > 0]
    roof = profile.roof()
    assert roof is not None

    def rate(step: dict[str, Any], key: str) -> float:
        return float(step[key] / busy(step) / 1e9)

    def draw(axes: Any) -> None:
        numbers = [step["step"] for step in steps]
        for key, name, color, limit in (
            ("nvme_read_bytes", "read", "#3b6ea5", roof[0]),
            ("nvme_write_bytes", "written", "#c8553d", roof[1]),
        ):
            axes.plot(numbers, [rate(step, key) for step in steps], color=color, label=name, linewidth=1.4)
            axes.axhline(limit, color=color, linewidth=0.8, linestyle="--", label=f"{name}: measured alone")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("update")
        axes.set_ylabel("GB/s while busy")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)

    note = "<p>Reading and writing share the drive: their sum is what compares with a roof.</p>"
    return _svg(draw) + note + (_drive_table(profile) if len(profile.drives()) > 1 else "")


def _drive_table(profile: Profile) -> str:
    rows = []
    for drive, alone in zip(profile.drives(), profile.calibrations(), strict=True):
        rates = f"{drive['read_gb_s'] + drive['write_gb_s']:.2f}", f"{alone['mixed_gb_s']:.2f}"
        moved = size(drive["read_bytes"] + drive["write_bytes"])
        cells = "".join(f'<td class="n">{cell}</td>' for cell in (moved, *rates, f"{drive['share']:.0%}"))
        rows.append(f"<tr><td>{html.escape(drive['path'])}</td>{cells}</tr>")
    heads = "".join(f'<th class="n">{head}</th>' for head in ("moved", "GB/s while busy", "measured alone", "share"))
    return f"<table><tr><th>drive</th>{heads}</tr>{''.join(rows)}</table>"


def _wear(profile: Profile, tbw: float) -> str:
    steps = profile.steps
    written = sum(step["nvme_write_bytes"] for step in profile.content["steps"])
    per_day = sum(s["nvme_write_bytes"] for s in steps) / sum(s["seconds"] for s in steps) * 86400
    days = tbw * 1e12 / per_day if per_day else float("inf")
    return (
        f"<p>{size(written)} were written, {per_day / 1e12:.2f} TB a day at this pace: a drive rated for {tbw:g} TB is "
        f"used up after {days:,.0f} days of training (--tbw says another rating).</p>"
    )


def _memory_table(profile: Profile) -> str:
    stats, engine = profile.content["stats"], profile.content["engine"]
    budgets = (engine["config"]["values"].get("orlop") or {}).get("memory") or {}
    rows = []
    for name, used, budget in (
        ("host memory", stats["host_bytes"], budgets.get("host")),
        ("of it parameters and gradients", stats["model_bytes"], None),
        ("of it staging", stats["staging_bytes"], None),
        ("NVMe", stats["nvme_bytes"], budgets.get("nvme")),
    ):
        share = f'<meter min="0" max="1" value="{used / budget:.4f}"></meter> {used / budget:.0%}' if budget else ""
        limit = size(budget) if budget else "no limit"
        cells = f'<td>{name}</td><td class="n">{size(used)}</td><td class="n">{limit}</td><td>{share}</td>'
        rows.append(f"<tr>{cells}</tr>")
    return f'<table><tr><th></th><th class="n">used</th><th class="n">budget</th><th></th></tr>{"".join(rows)}</table>'


def _config_table(profile: Profile) -> str:
    entries = [
        e for e in profile.content["engine"]["config"]["entries"] if e["origin"] != "default" and e["value"] is not None
    ]
    rows = "".join(
        f"<tr><td>{html.escape(e['key'])}</td><td>{html.escape(json.dumps(e['value']))}</td>"
        f"<td>{html.escape(e['origin'] + (': ' + e['why'] if e['why'] else ''))}</td></tr>"
        for e in entries
    )
    return f"<table><tr><th>key</th><th>value</th><th>from</th></tr>{rows}</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orlop: what limits this run</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #22242a; background: #f6f4ee; margin: 0 auto; max-width: 56rem;
       padding: 2rem 1.2rem 4rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .4rem; }} h2 {{ font-size: 1.05rem; margin: 0 0 .6rem; }}
section, .verdict {{ background: #fff; border: 1px solid #e2ded2; border-radius: 6px; padding: 1rem 1.2rem;
       margin: 1rem 0; overflow-x: auto; }}
.verdict {{ border-left: 5px solid #c8553d; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: .8rem; }}
.tile {{ background: #fff; border: 1px solid #e2ded2; border-radius: 6px; padding: .6rem 1rem; min-width: 8rem;
       flex: 1; }}
.tile b {{ display: block; font-size: 1.3rem; }} .tile span {{ color: #6c6a62; font-size: .85rem; }}
svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; }} td, th {{ padding: .15rem .9rem .15rem 0; text-align: left; }}
td i {{ display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; }} p {{ margin: .5rem 0 0; }}
</style></head><body>
<h1>What limits this run: {what}</h1>
<div class="verdict"><b>First change:</b> {change}</div>
<div class="tiles">{tiles}</div>
{body}
</body></html>
"""
