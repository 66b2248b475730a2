"""The count at the end of `./dev test`: nothing that failed may look as if it had passed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tally

PASSED = '<testcase classname="Store" name="Opens" status="run"/>'
SKIPPED = ('<testcase classname="Cuda" name="Copies" status="run"><skipped message="cuda_test.cpp:12&#x0A;no CUDA device '
           'here"/></testcase>')
FAILED = '<testcase classname="Store" name="Writes" status="run"><failure message="Expected: x"/></testcase>'
DISABLED = '<testcase classname="Store" name="DISABLED_Later" status="notrun"/>'


def suite(results: Path, name: str, status: int, tests: dict[str, tuple[str, str]] | None = None) -> Path:
    """A suite's folder; tests: name -> (Meson's result, GoogleTest's cases or "")."""
    folder = results / name
    folder.mkdir()
    (folder / "status").write_text(f"{status}\n")
    if tests is not None:
        rows = [{"name": f"orlop:unit / {test}", "result": result, "returncode": 1, "stdout": "says why\n"}
                for test, (result, _) in tests.items()]
        (folder / "meson.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for test, (_, cases) in tests.items():
            if cases:
                (folder / f"{test}.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return folder


def said(results: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = tally.main(results)
    return status, capsys.readouterr().out.splitlines()


def test_counts_cases_of_gtest_and_programs_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite(tmp_path, "release", 0, {"store": ("OK", PASSED + SKIPPED + DISABLED), "symbols": ("OK", "")})
    assert said(tmp_path, capsys) == (0, ["skipped Cuda.Copies: no CUDA device here  [release]",
                                          "2 passed, 0 failed, 1 skipped"])


def test_a_failed_case_fails_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite(tmp_path, "release", 1, {"store": ("FAIL", PASSED + FAILED)})
    assert said(tmp_path, capsys) == (1, ["failed  Store.Writes: Expected: x  [release]",
                                          "1 passed, 1 failed, 0 skipped"])


@pytest.mark.parametrize("result", ["FAIL", "TIMEOUT", "ERROR", "INTERRUPT", "UNEXPECTEDPASS"])
def test_a_program_that_fails_after_its_cases_passed_counts_as_failed(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], result: str) -> None:
    suite(tmp_path, "asan", 1, {"store": (result, PASSED)})
    status, lines = said(tmp_path, capsys)
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_a_suite_that_could_not_be_built_counts_as_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite(tmp_path, "release", 0, {"store": ("OK", PASSED)})
    suite(tmp_path, "tsan", 1)
    status, lines = said(tmp_path, capsys)
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_a_suite_that_ran_nothing_counts_as_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite(tmp_path, "release", 0, {"store": ("OK", PASSED)})
    suite(tmp_path, "fuzz", 0, {})
    status, lines = said(tmp_path, capsys)
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_two_tests_of_one_name_count_as_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = suite(tmp_path, "release", 0, {"store": ("OK", PASSED)})
    text = (folder / "meson.json").read_text()
    (folder / "meson.json").write_text(text + text)
    assert said(tmp_path, capsys)[0] == 1


def test_nothing_run_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, capsys) == (1, ["0 passed, 0 failed, 0 skipped"])


def test_one_reason_is_said_once_for_all_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("asan", "release"):
        suite(tmp_path, name, 0, {"cuda": ("OK", PASSED + SKIPPED)})
    assert said(tmp_path, capsys) == (0, ["skipped Cuda.Copies: no CUDA device here  [asan, release]",
                                          "2 passed, 0 failed, 2 skipped"])


def test_pytest_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = suite(tmp_path, "python", 0)
    (folder / "pytest.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="b"/><testcase classname="a" name="c"><skipped '
        'type="pytest.skip" message="no GPU">a.py:3: no GPU</skipped></testcase></testsuite></testsuites>')
    assert said(tmp_path, capsys) == (0, ["skipped a.c: no GPU  [python]", "1 passed, 0 failed, 1 skipped"])
