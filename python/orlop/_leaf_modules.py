"""Leaf modules: what is within one is needed as a whole, whichever module of it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ._parameters import LEAF
from .config import Config


def is_leaf(module: nn.Module) -> bool:
    """Whether a program has said so of the module itself."""
    return bool(getattr(module, LEAF, False))


def leaves_of(model: nn.Module) -> list[nn.Module]:
    """The leaf modules of a model, itself included."""
    return [module for module in model.modules() if is_leaf(module)]


def set_leaves(modules: Iterable[nn.Module], is_set: bool) -> None:
    """Before `initialize`: says of modules that they are leaf modules, or are not."""
    for module in modules:
        setattr(module, LEAF, is_set)


def of_classes(model: nn.Module, classes: Iterable[Any]) -> list[nn.Module]:
    """A model's modules of some classes, each a class or its name, with or without that of its Python module."""
    wanted = list(classes)
    return [module for module in model.modules() if any(_is_of(module, each) for each in wanted)]


def _is_of(module: nn.Module, wanted: Any) -> bool:
    if isinstance(wanted, type):
        return isinstance(module, wanted)
    cls = type(module)
    return wanted in (cls.__name__, cls.__qualname__, f"{cls.__module__}.{cls.__qualname__}")


def of_names(model: nn.Module, names: Iterable[str]) -> tuple[list[nn.Module], list[str]]:
    """A model's modules by their full names; names that it does not have."""
    modules = dict(model.named_modules())
    wanted = list(names)
    return [modules[name] for name in wanted if name in modules], [name for name in wanted if name not in modules]


def of_suffixes(model: nn.Module, suffixes: Iterable[str]) -> tuple[list[nn.Module], list[str]]:
    """A model's modules whose names end so; ends that no name has."""
    named = list(model.named_modules())
    found = {suffix: [module for name, module in named if name.endswith(suffix)] for suffix in suffixes}
    modules = dict.fromkeys(module for matched in found.values() for module in matched)
    return list(modules), [suffix for suffix, matched in found.items() if not matched]


def set_configured(model: nn.Module, config: Config) -> None:
    """Those that zero_optimization.leaf_module names; what the model does not have is passed over."""
    block = config.get("zero_optimization.leaf_module", {})
    set_leaves(of_classes(model, _listed(block, "classes")), True)
    set_leaves(of_names(model, _listed(block, "names"))[0], True)
    set_leaves(of_suffixes(model, _listed(block, "name_suffixes"))[0], True)


def _listed(block: dict[str, Any], key: str) -> list[str]:
    value = block.get(key) or []
    return [value] if isinstance(value, str) else list(value)
