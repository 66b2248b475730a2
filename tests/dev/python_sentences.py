"""The sentences that Python sources can say: what is raised, logged, and complained of by `orlop doctor`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from sentence import GAP, Sentence, joined, says_something

LEVELS = ("debug", "info", "warning", "error")
PERCENT = re.compile(r"%[-+ #.\d]*[a-zA-Z]")


def texts_of(node: ast.expr) -> list[str]:
    """What an expression can be, with gaps for what is not written in it."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return all_of(parts)
        case ast.FormattedValue(value=ast.IfExp() as choice):
            return texts_of(choice)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return all_of([left, right])
        case ast.IfExp(body=body, orelse=other):
            return texts_of(body) + texts_of(other)
    return [GAP]


def all_of(parts: list[ast.expr]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [before + after for before in texts for after in texts_of(part)]
    return texts


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_logger(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and name_of(function.value) == "logger"


def python_sentences(source: str) -> set[Sentence]:
    found = set(sentences_in(ast.parse(source)))
    return {sentence for sentence in found if says_something(sentence.text)}


def sentences_in(tree: ast.Module) -> Iterator[Sentence]:
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=function, args=[first, *_])) if name_of(function).endswith("Error"):
                yield from (Sentence(joined(text), name_of(function)) for text in texts_of(first))
            case ast.Call(func=function, args=[first, *_]) if is_logger(function) and name_of(function) in LEVELS:
                for text in texts_of(first):
                    yield Sentence(joined(PERCENT.sub(GAP, text)), name_of(function))
            case ast.Call(func=ast.Attribute(attr="complain"), args=[problem, fix]):
                (remedy,) = texts_of(fix)
                yield from (Sentence(f"problem: {joined(text)}", "orlop doctor", remedy) for text in texts_of(problem))
