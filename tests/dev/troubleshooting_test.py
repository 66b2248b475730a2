"""docs/troubleshooting.md lists what the sources can say. ORLOP_REGENERATE=1 writes it; without it, it must agree."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import troubleshooting
from cpp_sentences import calls_without_a_sentence, cpp_sentences
from python_sentences import python_sentences
from remedies import REMEDIES
from sentence import GAP, Sentence
from troubleshooting import BEGIN, CPP, PAGE, ROOT, all_sentences, sources

HOW = "ORLOP_REGENERATE=1 ./dev python -m pytest tests/dev/troubleshooting_test.py writes it"


def test_the_page_agrees_with_the_sources() -> None:
    committed = PAGE.read_text()
    made = troubleshooting.page(committed)
    if "ORLOP_REGENERATE" in os.environ:
        PAGE.write_text(made)
        return
    missing = sorted(set(made.splitlines()) - set(committed.splitlines()))
    stale = sorted(set(committed.splitlines()) - set(made.splitlines()))
    assert committed == made, f"{PAGE.name} is stale; {HOW}\nmissing: {missing}\nno longer there: {stale}"


def test_every_remedy_belongs_to_a_sentence() -> None:
    unknown = sorted(set(REMEDIES) - {sentence.text for sentence in all_sentences()})
    assert not unknown, f"remedies.py explains what nothing says any more: {unknown}"


@pytest.mark.parametrize("path", sources(*CPP), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_failure_is_without_a_sentence(path: Path) -> None:
    assert calls_without_a_sentence(path.read_text()) == 0


def written_by_hand() -> str:
    """The page before its generated part, in one line."""
    return " ".join(PAGE.read_text().partition(BEGIN)[0].split())


def test_what_doctor_says_is_in_the_ten_problems() -> None:
    """Or in the section behind them: its fixes are the page's."""
    for sentence in all_sentences():
        command = re.split(r" {2,}\(", sentence.fix)[0]
        if command and GAP not in command and command != "see the sentence":
            assert command in written_by_hand(), f"doctor's fix for {sentence.text!r} is not there: {command}"


def test_sentences_in_the_ten_problems_are_said() -> None:
    said = [sentence.text for sentence in all_sentences()]
    for quoted in re.findall(r"`([^`]+)`", written_by_hand()):
        if GAP in quoted and quoted != GAP:
            assert any(quoted in text for text in said), quoted


def test_cpp_sentences_are_found_in_every_form() -> None:
    source = r'''
        constexpr auto kWhat = "open file";
        // fail(ORLOP_X, "a comment: is none");
        if (bad) return fail(ORLOP_NO_SPACE, "disk: on {} ({:.2f} GB): " "full{}", path, size, hint);
        return fail(status_of_errno(errno), "{}: on {}: {}", kWhat, path, describe_errno(errno));
        return fail_cuda(error, "CUDA: copy of {} B", bytes);
        return fail(code == 1 ? ORLOP_NOT_FOUND : status_of_errno(code), "read: {{{}}}", path);
        log_warning("a \"word\": {}", why);
        give_up({ORLOP_INTERNAL, fmt::format("thread: {}", e.what())});
        notes_.push_back(fmt::format("config: on {}: old", key));
        return report({ORLOP_INTERNAL, std::string("internal: ") + e.what()});
        use("no: sentence", fmt::format("rank{}", n));
    '''
    assert cpp_sentences(source) == {
        Sentence("disk: on … (… GB): full…", "ORLOP_NO_SPACE"),
        Sentence("CUDA: copy of … B: …", "by CUDA's error"),
        Sentence("open file: on …: …", "by errno"),
        Sentence("read: {…}", "ORLOP_NOT_FOUND, else by errno"),
        Sentence('a "word": …', "warning"),
        Sentence("thread: …", "ORLOP_INTERNAL"),
        Sentence("config: on …: old", "note"),
        Sentence("internal: …", "ORLOP_INTERNAL"),
    }
    assert calls_without_a_sentence(source) == 0
    assert calls_without_a_sentence("return fail(ORLOP_IO_ERROR, text);") == 1


def test_python_sentences_are_found_in_every_form() -> None:
    source = """
raise NoSpaceError(f"export: on {path}: {total} bytes " "are needed")
raise ConfigError("a: " + ("b" if x else f"{c}"))
raise error
_log.logger.warning("step %d: %s: missing", step, error)
findings.complain(f"only {said}", "ulimit")
"""
    assert python_sentences(source) == {
        Sentence("export: on …: … bytes are needed", "NoSpaceError"),
        Sentence("a: b", "ConfigError"),
        Sentence("a: …", "ConfigError"),
        Sentence("step …: …: missing", "warning"),
        Sentence("problem: only …", "orlop doctor", "ulimit"),
    }
