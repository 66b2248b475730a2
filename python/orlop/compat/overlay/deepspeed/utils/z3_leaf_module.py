"""Leaf modules of stage 3 under DeepSpeed's names: what is within one is in memory as a whole.

To be said before `initialize`; of a mixture of experts, for example, where it depends on the input which of them run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import _leaf_modules
from torch import nn

__all__ = [
    "get_z3_leaf_modules",
    "set_z3_leaf_modules",
    "set_z3_leaf_modules_by_name",
    "set_z3_leaf_modules_by_suffix",
    "unset_z3_leaf_modules",
    "z3_leaf_module",
]

Found = tuple[list[nn.Module], list[str]]  # modules, and what was asked for and is not there


def z3_leaf_module(model: nn.Module) -> bool:
    """Whether a module is a leaf module."""
    return _leaf_modules.is_leaf(model)


def get_z3_leaf_modules(model: nn.Module) -> list[nn.Module]:
    """The leaf modules of a model."""
    return _leaf_modules.leaves_of(model)


def set_z3_leaf_modules(
    model: nn.Module, leaf_module_classes: Iterable[Any], raise_if_not_found: bool = True
) -> list[nn.Module]:
    """Makes a model's modules of some classes, or of classes with some names, leaf modules; returns them.

    Raises ValueError if there are none, unless `raise_if_not_found` is false.
    """
    return _set(model, list(leaf_module_classes), True, raise_if_not_found)


def unset_z3_leaf_modules(
    model: nn.Module, leaf_module_classes: Iterable[Any], raise_if_not_found: bool = True
) -> list[nn.Module]:
    """The opposite."""
    return _set(model, list(leaf_module_classes), False, raise_if_not_found)


def set_z3_leaf_modules_by_name(
    model: nn.Module, module_names: Iterable[str], flag: bool = True, raise_if_not_found: bool = True
) -> Found:
    """Makes modules with these full names leaf modules, with a false `flag` ordinary ones.

    Returns them, and the names that the model does not have. Raises ValueError for such a name, unless
    `raise_if_not_found` is false.
    """
    return _set_found(model, "named", _leaf_modules.of_names(model, module_names), flag, raise_if_not_found)


def set_z3_leaf_modules_by_suffix(
    model: nn.Module,
    module_name_suffixes: Iterable[str],
    flag: bool = True,
    raise_if_not_found: bool = True,
) -> Found:
    """The same by the ends of their names."""
    found = _leaf_modules.of_suffixes(model, module_name_suffixes)
    return _set_found(model, "with a name that ends in", found, flag, raise_if_not_found)


def _set(model: nn.Module, classes: list[Any], is_leaf: bool, raise_if_not_found: bool) -> list[nn.Module]:
    found = _leaf_modules.of_classes(model, classes)
    if not found and raise_if_not_found:
        names = [getattr(each, "__name__", each) for each in classes]
        raise ValueError(f"z3 leaf modules: on a {type(model).__name__}: it has no module of a class of {names}")
    _leaf_modules.set_leaves(found, is_leaf)
    return found


def _set_found(model: nn.Module, how: str, found: Found, is_leaf: bool, raise_if_not_found: bool) -> Found:
    modules, missing = found
    if missing and raise_if_not_found:
        raise ValueError(f"z3 leaf modules: on a {type(model).__name__}: it has no module {how} {missing}")
    _leaf_modules.set_leaves(modules, is_leaf)
    return found
