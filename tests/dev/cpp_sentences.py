"""The sentences that C++ sources can say: the formats of `fail`, of log lines, and of notes on a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sentence import GAP, Sentence, joined, says_something

TOKEN = re.compile(
    r"""(?P<skip>\s+ | //[^\n]* | /\*.*?\*/ | ^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*)
      | R"(?P<mark>[^(\s]*)\((?P<raw>.*?)\)(?P=mark)"
      | "(?P<text>(?:[^"\\\n]|\\.)*)"
      | '(?:[^'\\\n]|\\.)+'
      | (?P<word>\w+(?:(?:::|\.|->)\w+)*)
      | .""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
SHAPE = re.compile(r"(?:\{\}|\w[\w ]*)(?: \{\})?: ")  # `what: ...`, also with a number behind the word
FORMATTED = ("fmt::format", "std::string")
CONSTANT = re.compile(r"\b(k[A-Z]\w*)\s*=\s*\"([^\"]*)\"")
ESCAPES = {"n": "\n", "t": "\t", "0": "\0"}
FAIL_CALLS = ("fail", "fail_cuda")
LOG_CALLS = {"log_debug": "debug", "log_info": "info", "log_warning": "warning", "log_error": "error"}
LISTS = {"problems_.push_back": "ORLOP_INVALID_CONFIG", "notes_.push_back": "note", "warnings_.push_back": "warning"}
OF_CONFIG = "config: on {} ({}): "  # Resolver::refuse of src/base/config.cpp begins with it


@dataclass
class Bracket:
    """An open bracket: what is called, and its arguments as far as they have been read, without their literals."""

    call: str = ""
    arguments: list[str] = field(default_factory=lambda: [""])

    def argument(self, index: int) -> str:
        return self.arguments[index] if index < len(self.arguments) else ""


@dataclass
class Literal:
    """String literals that follow each other, joined."""

    text: str
    place: int
    inside: list[Bracket]  # innermost last
    index: int  # which argument of the innermost one


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text)


def literals_of(source: str) -> Iterator[Literal]:
    """Every literal, with the brackets around it."""
    open_, last_word, literal = [Bracket()], "", None
    for token in TOKEN.finditer(source):
        if token["skip"]:
            continue
        text = token["raw"] if token["raw"] is not None else token["text"] and unescaped(token["text"])
        if token[0].endswith('"') and text is not None:
            if literal is None:
                literal = Literal("", token.start(), list(open_), len(open_[-1].arguments) - 1)
                yield literal
            literal.text += text
            continue
        literal = None
        follow(open_, token[0], last_word)
        last_word = token[0] if token["word"] else ""


def follow(open_: list[Bracket], word: str, last_word: str) -> None:
    """Keeps the stack of open brackets."""
    if word in ("(", "[", "{"):
        open_.append(Bracket(last_word))
    elif word in (")", "]", "}") and len(open_) > 1:
        closed = open_.pop()
        open_[-1].arguments[-1] += f"({','.join(closed.arguments)})"
    elif word in (",", ";"):
        open_[-1].arguments.append("")
    else:
        open_[-1].arguments[-1] += word


def is_status(argument: str) -> bool:
    return argument.startswith(("ORLOP_", "status_of_"))


def kind_of(literal: Literal) -> str | None:
    """What a literal is said with; None when it is no sentence."""
    inner = literal.inside[-1]
    if inner.call in LOG_CALLS and literal.index == 0:
        return LOG_CALLS[inner.call]
    if literal.index == 1 and (inner.call in FAIL_CALLS or is_status(inner.argument(0))):
        return "status_of_cuda" if inner.call == "fail_cuda" else inner.argument(0)
    if inner.call == "refuse" and (literal.index == 1 or SHAPE.match(literal.text)):
        return "ORLOP_INVALID_CONFIG"
    if inner.call in FORMATTED and literal.index == 0 and SHAPE.match(literal.text):
        return kind_of_formatted(literal)
    return None


def kind_of_formatted(literal: Literal) -> str | None:
    """As in Error{status, fmt::format(...)} and notes_.push_back(fmt::format(...))."""
    for bracket in reversed(literal.inside[-4:-1]):
        if is_status(bracket.argument(0)):
            return bracket.argument(0)
        if bracket.call == "refuse":
            return "ORLOP_INVALID_CONFIG"
        if bracket.call in LISTS:
            return LISTS[bracket.call]
    return "warning" if literal.text.startswith("config: ") else None


def readable_kind(kind: str) -> str:
    """`ORLOP_NO_SPACE`, or what a status is made from."""
    named = re.findall(r"ORLOP_\w+", kind)
    if "status_of_cuda" in kind:
        named.append("by CUDA's error")
    elif "status_of_" in kind:
        named.append("by errno")
    elif not named and "." in kind:
        named.append("that of its cause")
    return ", else ".join(dict.fromkeys(named)) or kind


def format_of(literal: Literal, source: str) -> str:
    """The format with its first placeholder filled in where that is a constant of the file."""
    inner = literal.inside[-1]
    if inner.call == "refuse" and literal.index == 1:
        return OF_CONFIG + literal.text
    if inner.call == "fail_cuda":
        return literal.text + ": {}"
    if literal.text.endswith(": "):  # std::string("what: ") + error.what()
        return literal.text + "{}"
    first = inner.argument(literal.index + 1)
    constants = dict(CONSTANT.findall(source, 0, literal.place))
    return literal.text.replace("{}", constants[first], 1) if first in constants else literal.text


def filled(format_: str) -> str:
    return joined(PLACEHOLDER.sub(lambda found: {"{{": "{", "}}": "}"}.get(found[0], GAP), format_))


def calls_without_a_sentence(source: str) -> int:
    """How many calls of `fail` have no format that was found."""
    literals = list(literals_of(source))
    formats = (literal.inside[-1] for literal in literals if literal.index == 1)
    read = {id(bracket) for bracket in formats if bracket.call in FAIL_CALLS}
    return len(re.findall(r"(?:return|=|\?|:)\s+fail(?:_cuda)?\(", source)) - len(read)


def cpp_sentences(source: str) -> set[Sentence]:
    found = set()
    for literal in list(literals_of(source)):  # all of it first: arguments behind a literal are known then
        kind, text = kind_of(literal), filled(format_of(literal, source))
        if kind is not None and says_something(text):
            found.add(Sentence(text, readable_kind(kind)))
    return found
