"""Hugging Face's Trainer on the overlay: its loss curves are those of plain training, wherever states live."""

from __future__ import annotations

from pathlib import Path

import pytest
from hf_runs import STEPS, VALUES, Case, covering, expected, matrix, tolerance, trained


def check(case: Case, folder: Path) -> None:
    plain = expected(case)
    losses = trained(case, folder)
    assert len(losses) == STEPS * case.accumulation
    assert losses == pytest.approx(plain, rel=tolerance(case))
    assert losses[-1] < 0.985 * losses[0]


@pytest.mark.parametrize("case", covering(), ids=str)
def test_losses_are_those_of_plain_training(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", matrix(), ids=str)
def test_losses_are_those_of_plain_training_in_every_combination(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_the_selection_covers_every_pair() -> None:
    names = list(VALUES)
    cases = covering()
    for first in names:
        for second in names[names.index(first) + 1 :]:
            seen = {(getattr(case, first), getattr(case, second)) for case in cases}
            assert len(seen) == len(VALUES[first]) * len(VALUES[second]), (first, second)
