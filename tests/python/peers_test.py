"""bench/peers: all systems train the same model, the report's arithmetic, the workers, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from peers import aio_sweep, environment, errors, model, options, plan, results, setting, shape, systems, tables, tuning  # noqa: E402
from peers.measure import with_bytes  # noqa: E402
from peers.results import Cell, Sample  # noqa: E402
from peers.setting import Case, Setting, Tuning  # noqa: E402
from peers.systems import DEFAULTS, MAPPED, ORLOP, TORCH, TUNED  # noqa: E402
from peers.workers import Worker  # noqa: E402

MEMORY = Case("none", "none", "bf16")
NVME = Case("nvme", "none", "bf16")
PATIENCE = 300.0  # seconds; nothing here takes more than some on an idle machine
VARIABLES = environment.variables(threads=1)


def sample(seconds: float, loss: float = 1.0) -> Sample:
    return Sample(forward=seconds / 4, backward=seconds / 4, optimizer=seconds / 2, loss=loss)


def cell(system: str, seconds: list[float], case: Case = NVME, beside: Cell | None = None, **more: Any) -> Cell:
    made = Cell(case, system, 1000, [sample(s) for s in seconds], [1.0] * len(seconds), beside=beside)
    for name, value in more.items():
        setattr(made, name, value)
    return made


# ---- The model ----


@pytest.mark.parametrize("of", [shape.SMOKE, shape.shape_of(5e6, 64)])
def test_a_shape_knows_how_many_parameters_its_model_has(of: shape.Shape) -> None:
    made = model.make(of, torch.float32, seed=0)
    assert sum(parameter.numel() for parameter in made.parameters()) == of.params


@pytest.mark.parametrize("params", [1e6, 30e6, 300e6])
def test_shapes_come_near_to_the_number_asked_for(params: float) -> None:
    assert shape.shape_of(params, 64).params == pytest.approx(params, rel=0.2)


def test_a_smaller_budget_takes_layers_and_leaves_one() -> None:
    whole = shape.shape_of(300e6, 64)
    assert whole.with_at_most(250e6).params <= 250e6
    assert whole.with_at_most(1).layers == 1


def test_models_and_batches_follow_from_the_seed() -> None:
    one, two, other = (model.make(shape.SMOKE, torch.bfloat16, seed) for seed in (3, 3, 4))
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.embed.weight, other.embed.weight)
    assert torch.equal(model.batch(shape.SMOKE, 5, 3)[0], model.batch(shape.SMOKE, 5, 3)[0])
    assert not torch.equal(model.batch(shape.SMOKE, 5, 3)[0], model.batch(shape.SMOKE, 6, 3)[0])


def test_precisions_begin_with_the_same_values() -> None:
    fp32, bf16 = (model.make(shape.SMOKE, dtype, 0) for dtype in (torch.float32, torch.bfloat16))
    pairs = zip(fp32.parameters(), bf16.parameters(), strict=True)
    assert all(torch.equal(a.bfloat16(), b) for a, b in pairs)


# ---- What is said to the engines ----


def test_a_setting_survives_its_way_to_the_worker() -> None:
    tuned = Tuning("some", {"aio": {"block_size": 1}}, {"buffer_count": 9}, {"sub_group_size": 7}, {"A": "b"})
    sent = Setting(TUNED, NVME, shape.SMOKE, 4, "/local_nvme", tuned)
    assert Setting.of(sent.text()) == sent


def test_orlop_understands_every_configuration_that_deepspeed_gets() -> None:
    import orlop

    for case in plan.cases(("none", "cpu", "nvme"), ("none",), setting.PRECISIONS):
        for tuned in (Tuning(), *tuning.candidates(case, 10**8, aio_sweep.block_of((1 << 20, 32, True, False, 1)))):
            config = setting.configuration(Setting(ORLOP, case, shape.SMOKE, 0, "/local_nvme", tuned))
            assert not [note for note in orlop.Config(config).notes if "unknown" in note]


def test_candidates_stay_within_the_case() -> None:
    for case in plan.cases(setting.DEVICES, setting.DEVICES, setting.PRECISIONS):
        names = [one.name for one in tuning.candidates(case, 10**8, {})]
        assert names and len(names) == len(set(names))


def test_the_fastest_tuning_that_works_is_chosen_and_failures_are_told() -> None:
    seconds = {"slow": 3.0, "fast": 2.0}

    def measured(tried: Tuning) -> float:
        if tried.name not in seconds:
            raise errors.WorkerFailed("AssertionError: it did not")
        return seconds[tried.name]

    best, trials = tuning.choose([Tuning("slow"), Tuning("broken"), Tuning("fast")], measured)
    assert best == Tuning("fast")
    assert [trial.message for trial in trials] == ["", "AssertionError: it did not", ""]
    assert tuning.choose([Tuning("broken")], measured)[0] is None


# ---- The plan ----


def test_each_group_has_orlop_and_fits() -> None:
    budget = plan.Budget(12e9, 20e9)
    every = plan.systems_of(NVME)
    fitting = plan.fitting(shape.shape_of(300e6, 64), NVME, every, budget)
    groups = plan.groups(NVME, every, fitting.params, budget)
    assert sorted(s for group in groups for s in group.systems if s != ORLOP) == sorted(
        set(every) - {ORLOP, systems.MATCHED}
    )
    for group in groups:
        assert group.systems[-1] == ORLOP
        assert sum(plan.footprint.memory_bytes(s, NVME, fitting.params) for s in group.systems) <= budget.memory_bytes
        assert sum(plan.footprint.drive_bytes(s, NVME, fitting.params) for s in group.systems) <= budget.drive_bytes


def test_what_does_not_fit_together_in_memory_runs_alone() -> None:
    budget = plan.Budget(7e9, 20e9)
    every = plan.systems_of(MEMORY, (DEFAULTS, ORLOP))
    groups = plan.groups(MEMORY, every, 200_000_000, budget)
    assert [group.systems for group in groups] == [(DEFAULTS,), (ORLOP,)]


def test_too_small_a_budget_is_refused_with_a_sentence() -> None:
    with pytest.raises(errors.PeersError, match="give --params a smaller number"):
        plan.fitting(shape.shape_of(300e6, 64), NVME, plan.systems_of(NVME), plan.Budget(1e9, 20e9))


def test_the_case_in_memory_comes_first() -> None:
    cases = plan.cases(setting.DEVICES[::-1], setting.DEVICES, setting.PRECISIONS)
    assert len(cases) == 18
    assert cases[0] == cases[0].in_memory
    assert systems.takes_part(TORCH, cases[0]) and not systems.takes_part(TORCH, NVME)


# ---- The arithmetic ----


def test_ratios_are_of_rounds() -> None:
    ours = cell(ORLOP, [1.0, 10.0, 2.0])
    assert results.ratio(cell(DEFAULTS, [2.0, 20.0, 4.0], beside=ours)) == 2.0
    assert results.ratio(cell(DEFAULTS, [4.0, 4.0], beside=ours, in_turn=False)) == 2.0
    assert results.ratio(cell(DEFAULTS, [], beside=ours, message="no")) is None


def test_the_cost_of_offload_is_beyond_the_same_system_in_memory() -> None:
    ours_in_memory, ours = cell(ORLOP, [1.0], MEMORY), cell(ORLOP, [2.0])
    theirs = [cell(DEFAULTS, [3.0], MEMORY, ours_in_memory), cell(DEFAULTS, [6.0], NVME, ours)]
    (cost,) = results.costs([*theirs, ours_in_memory, ours])
    assert (cost.seconds, cost.orlop_seconds, cost.ratio) == (3.0, 1.0, 3.0)
    theirs[0].params = 999
    assert results.costs([*theirs, ours_in_memory, ours]) == []


def test_systems_that_ran_alone_are_put_beside_each_other() -> None:
    theirs, ours = cell(DEFAULTS, [4.0], MEMORY), cell(ORLOP, [2.0], MEMORY)
    results.put_beside([theirs, ours], ORLOP)
    assert theirs.beside is ours and not theirs.in_turn and ours.beside is None


def test_bytes_between_two_beginnings_belong_to_the_first_step() -> None:
    counted = with_bytes([sample(1), sample(1)], [(5, 10), (7, 40), (7, 45)])
    assert [(s.read_bytes, s.written_bytes) for s in counted] == [(2, 30), (0, 5)]


def test_cells_of_a_case_become_one_row() -> None:
    rows = results.whole([cell(ORLOP, [1.0], peak_bytes=5), cell(ORLOP, [3.0], peak_bytes=9), cell(DEFAULTS, [2.0])])
    assert [(row.system, len(row.samples)) for row in rows] == [(ORLOP, 2), (DEFAULTS, 1)]
    assert rows[0].seconds == 2.0 and rows[0].peak_bytes == 9 and rows[0].spread == (1.0, 3.0)


def test_losses_are_compared_step_by_step() -> None:
    assert results.loss_difference(cell(DEFAULTS, [1, 1], losses=[2.0, 1.1]), [2.0, 1.0]) == pytest.approx(0.1)
    assert results.loss_difference(cell(DEFAULTS, []), [1.0]) is None


# ---- The report ----


def test_a_message_stands_in_its_row_and_cannot_end_it() -> None:
    failed = cell(DEFAULTS, [], message="AssertionError: a | b <x> " + "long " * 100)
    text = tables.text([failed, cell(ORLOP, [1.0])], [], "about")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {DEFAULTS}")]
    assert "AssertionError: a / b x long" in row and row.endswith("|")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_rows_are_what_the_goals_speak_of() -> None:
    cpu = Case("cpu", "none", "bf16")
    ours = cell(ORLOP, [1.0], peak_bytes=50)
    cells = [cell(name, [2.0], beside=ours, peak_bytes=100) for name in (DEFAULTS, TUNED)]
    cells.append(cell(DEFAULTS, [2.0], cpu, beside=ours, peak_bytes=100))
    cells.append(cell(systems.MATCHED, [0.5]))
    rows = tables.few_rows(cells, [results.Cost(NVME, name, 3.0, 1.0) for name in (DEFAULTS, TUNED)])
    assert len(rows) == 6
    assert rows[-2][1].startswith("4.00 times Orlop's, which moves")
    assert rows[-1][1] == "2.00 times Orlop's step; Orlop has 50% of its memory"


def test_tables_go_between_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t: begin -->\nold\n<!-- t: end -->\nafter\n")
    tables.put(page, "t", "| a \\1 |")
    assert page.read_text() == "before\n<!-- t: begin -->\n\n| a \\1 |\n\n<!-- t: end -->\nafter\n"
    with pytest.raises(errors.PeersError, match="markers"):
        tables.put(page, "other", "x")


@pytest.mark.parametrize("page", ["docs/performance.md", "README.md"])
def test_the_documents_have_a_place_for_the_table(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text.count("<!-- peers table: begin -->") == text.count("<!-- peers table: end -->") == 1


@pytest.mark.parametrize(("text", "expected"), [("300M", 3e8), ("12G", 12e9), ("1e6", 1e6), ("2.5K", 2500.0)])
def test_sizes_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert options.size(text) == expected


@pytest.mark.parametrize("words", [["--params", "0"], ["--steps", "none"], ["--optimizer", "gpu"], ["--bogus"], []])
def test_a_wrong_command_line_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = ["--nvme_path", "."] if words else []
    with pytest.raises(SystemExit) as ended:
        options.parse([*path, *words])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_assertion_without_words_is_told_by_its_source() -> None:
    def failure(raise_it: Callable[[], None]) -> BaseException:
        try:
            raise_it()
        except Exception as error:
            return error
        raise AssertionError

    def silent() -> None:
        raise AssertionError

    def spoken() -> None:
        raise ValueError("first\nsecond")

    assert errors.first_line(failure(silent)) == "AssertionError: raise AssertionError"
    assert errors.first_line(failure(spoken)) == "ValueError: first"


# ---- Workers ----


def worker(system: str, case: Case, folder: Path, python: Path = Path(sys.executable)) -> Worker:
    folder.mkdir(exist_ok=True)
    chosen = Setting(system, case, shape.SMOKE, 0, str(folder))
    return Worker(python, chosen, folder.with_suffix(".log"), PATIENCE, VARIABLES)


def losses(system: str, case: Case, folder: Path, steps: int = 8, **more: Any) -> list[float]:
    with worker(system, case, folder, **more) as running:
        assert running.wait_until_ready()["params"] == shape.SMOKE.params
        answers = [running.step() for _ in range(steps)]
        last = running.end()
    assert last["peak_bytes"] > 0
    assert all(answer["forward"] > 0 and answer["backward"] > 0 and answer["optimizer"] > 0 for answer in answers)
    written = last["drive_bytes"][1] - answers[0]["drive_bytes"][1]
    if case.optimizer == "nvme" and system in (ORLOP, MAPPED):
        assert written >= (steps - 1) * 8 * shape.SMOKE.params  # the last step's may still be under way
    return [answer["loss"] for answer in answers]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_system_trains_as_torch_does(precision: str, tmp_path: Path) -> None:
    expected = losses(TORCH, Case("none", "none", precision), tmp_path / "torch")
    close = 5e-3 if precision == "bf16" else 1e-5
    for system, optimizer in ((MAPPED, "nvme"), (ORLOP, "none"), (ORLOP, "cpu"), (ORLOP, "nvme")):
        seen = losses(system, Case(optimizer, "none", precision), tmp_path / f"{system} {optimizer}")
        assert seen == pytest.approx(expected, rel=close), (system, optimizer)


def test_a_refusal_is_the_systems_own_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    chosen = Setting(ORLOP, NVME, shape.SMOKE, 0, str(tmp_path / "file"))
    log = tmp_path / "log"
    with (
        Worker(Path(sys.executable), chosen, log, PATIENCE, VARIABLES) as running,
        pytest.raises(errors.WorkerFailed, match="nvme_path"),
    ):
        running.wait_until_ready()


def test_a_killed_worker_is_a_message_and_not_a_wait(tmp_path: Path) -> None:
    with worker(TORCH, MEMORY, tmp_path / "killed") as running:
        running.wait_until_ready()
        running._process.kill()
        running._process.wait()
        with pytest.raises(errors.WorkerFailed, match="killed by SIGKILL"):
            running.step()


# ---- The command ----


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "peers", "--nvme_path", str(folder), "--smoke", "--threads", "1", *more]


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more), text=True, capture_output=True, timeout=600, env={**os.environ, **VARIABLES}
    )


def test_the_command_reports_and_leaves_nothing(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(
        store, "--systems", TORCH, MAPPED, ORLOP, "--parameters", "none", "--precision", "bf16", "--json", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert "| Orlop " in done.stdout and "the cost of offload" not in done.stdout
    cells = json.loads(out.read_text())["cells"]
    assert {(c["system"], c["case"]["optimizer"]) for c in cells} == {
        (TORCH, "none"),
        (ORLOP, "none"),
        (ORLOP, "cpu"),
        (MAPPED, "nvme"),
        (ORLOP, "nvme"),
    }
    assert all(not c["message"] and len(c["samples"]) == 2 for c in cells)
    assert list(store.iterdir()) == []


def test_parameters_elsewhere_get_the_engines_own_answer(store: Path) -> None:
    done = run(store, "--systems", ORLOP, "--optimizer", "cpu", "--parameters", "cpu", "--precision", "bf16")
    assert done.returncode == 0, done.stderr
    assert "ConfigError: config: on" in done.stdout or " 0.00 B" in done.stdout


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere")
    assert done.returncode == 1
    assert (
        done.stderr == f"peers: nvme_path: on {tmp_path / 'nowhere'}: there is no such directory; create it, or "
        "choose another\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(number: signal.Signals, store: Path) -> None:
    words = ["--systems", MAPPED, ORLOP, "--optimizer", "nvme", "--parameters", "none"]
    process = subprocess.Popen(
        command(store, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **VARIABLES},
    )
    wait_for(lambda: process.poll() is not None or any(path.is_file() for path in store.rglob("*")))
    workers = children_of(process.pid)
    assert workers
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    wait_for(lambda: not any(store.iterdir()))
    wait_for(lambda: not any(Path(f"/proc/{pid}/io").exists() and is_running(pid) for pid in workers))


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not environment.is_made(), reason="DeepSpeed is not in .cache/peers: ./dev bench peers makes it")
def test_deepspeed_trains_as_torch_does(tmp_path: Path) -> None:
    expected = losses(TORCH, MEMORY, tmp_path / "torch", steps=4)
    seen = losses(DEFAULTS, MEMORY, tmp_path / "deepspeed", steps=4, python=environment.python())
    assert seen == pytest.approx(expected, rel=5e-3)
