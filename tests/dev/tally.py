"""Adds up what `./dev test` ran: prints each skip with its reason, each failure, and one line with the counts.

usage: tally.py RESULTS

RESULTS holds one folder per suite: `status` (exit status), and `meson.json` with GoogleTest's NAME.xml beside it, or
the junit files of pytest. Exits with 1 when anything failed and when nothing ran.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    name: str
    outcome: str  # passed, failed or skipped
    why: str = ""


def first_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def case_of(element: ElementTree.Element) -> Case:
    name = f"{element.get('classname')}.{element.get('name')}"
    for tag in ("failure", "error"):
        if (found := element.find(tag)) is not None:
            return Case(name, "failed", first_line(found.get("message") or found.text))
    if (skipped := element.find("skipped")) is not None:
        return Case(name, "skipped", skip_reason(skipped))
    return Case(name, "passed")


def skip_reason(skipped: ElementTree.Element) -> str:
    """GoogleTest's message starts with `file:line`, pytest's text does."""
    message = skipped.get("message") or skipped.text or ""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return first_line("\n".join(lines[1:]) if len(lines) > 1 else message)


def junit_cases(file: Path) -> list[Case]:
    root = ElementTree.parse(file).getroot()
    ran = (case for case in root.iter("testcase") if case.get("status") != "notrun")
    return [case_of(case) for case in ran if case.get("result") != "suppressed"]


def meson_cases(log: Path) -> Iterator[Case]:
    """One case per GoogleTest case; one per test for programs that only have an exit status."""
    seen: set[str] = set()
    for line in log.read_text().splitlines():
        test = json.loads(line)
        name, result = test["name"].split(" / ")[-1], test["result"]  # "project:suite / name"
        if name in seen:
            yield Case(name, "failed", "two tests have this name and overwrite each other's results")
        seen.add(name)
        good = result in ("OK", "EXPECTEDFAIL")
        xml = log.parent / f"{name}.xml"
        cases = junit_cases(xml) if xml.exists() else []
        yield from cases
        if not good and result != "SKIP" and all(case.outcome != "failed" for case in cases):
            yield Case(name, "failed", f"{result}, exit status {test['returncode']}")
        elif not cases:
            outcome = "skipped" if result == "SKIP" else "passed"
            yield Case(name, outcome, first_line(test.get("stdout")))


def suite_cases(folder: Path) -> list[Case]:
    cases: list[Case] = []
    if (log := folder / "meson.json").exists():
        cases += meson_cases(log)
    else:
        for file in sorted(folder.glob("*.xml")):
            cases += junit_cases(file)
    status = int((folder / "status").read_text())
    if not cases and status == 0:
        cases.append(Case("(as a whole)", "failed", "ran no test"))
    elif status != 0 and all(case.outcome != "failed" for case in cases):
        cases.append(Case("(as a whole)", "failed", f"exit status {status}; its output is above"))
    return cases


def main(results: Path) -> int:
    count = {"passed": 0, "failed": 0, "skipped": 0}
    said: dict[str, list[str]] = {}
    for status in sorted(results.glob("*/status")):
        folder = status.parent
        for case in suite_cases(folder):
            count[case.outcome] += 1
            if case.outcome != "passed":
                said.setdefault(f"{case.outcome:8}{case.name}: {case.why}", []).append(folder.name)
    for line, suites in sorted(said.items(), reverse=True):
        print(f"{line}  [{', '.join(suites)}]")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
