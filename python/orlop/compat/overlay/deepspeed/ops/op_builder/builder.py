"""What every builder does."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import ClassVar


class OpBuilder:
    """One operation, by the name that `__compatible_ops__` has it under."""

    NAME: ClassVar[str] = ""
    MODULE: ClassVar[str | None] = None
    """Where it is; None: Orlop does not have it."""
    INSTEAD: ClassVar[str] = ""
    """Of one that is not here: what to use."""

    def is_compatible(self, verbose: bool = False) -> bool:
        """Whether it works on this machine."""
        return self.MODULE is not None

    def load(self, verbose: bool = True) -> ModuleType:
        """The module that has it. Raises NotImplementedError for what Orlop does not have."""
        if self.MODULE is None:
            raise NotImplementedError(f"{type(self).__name__}.load is not provided by Orlop: {self.INSTEAD}")
        return importlib.import_module(self.MODULE)

    def builder_available(self) -> bool:
        """Whether anything has to be compiled first that could not be: never."""
        return True


def compatible_ops() -> dict[str, bool]:
    """For each operation's name whether it works here."""
    from . import builders

    classes = [value for value in vars(builders).values() if isinstance(value, type) and issubclass(value, OpBuilder)]
    return {builder.NAME: builder().is_compatible() for builder in classes if builder.NAME}
