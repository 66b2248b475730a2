"""What the classes of a configuration's blocks have in common: checked fields, old spellings, "auto"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ..utils.logging import logger

try:
    import pydantic
except ImportError:
    raise ImportError(
        "deepspeed.runtime.config: on its classes: they are pydantic's, which is not installed: pip install pydantic"
    ) from None


class OldField(NamedTuple):
    """A spelling that is still taken."""

    new: str | None
    """The field that it sets now; None: it does nothing any more."""
    convert: Callable[[Any], Any] = lambda value: value
    """From its value the field's; None: nothing is to be set."""


class DeepSpeedConfigModel(pydantic.BaseModel):
    """A block of the configuration. A key that is unknown is an error; the value "auto" means not given."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        validate_default=True,
        validate_assignment=True,
        use_enum_values=True,
        populate_by_name=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    old_fields: ClassVar[dict[str, OldField]] = {}

    def __init__(self, strict: bool = False, **given: Any) -> None:
        """strict: "auto" is a value like any other."""
        if not strict:
            given = {name: value for name, value in given.items() if value != "auto"}
        super().__init__(**self._with_new_fields(given))

    @classmethod
    def _with_new_fields(cls, given: dict[str, Any]) -> dict[str, Any]:
        fields = dict(given)
        for name in cls.old_fields.keys() & given.keys():
            old, value = cls.old_fields[name], fields.pop(name)
            logger.warning("Config parameter %s is deprecated%s", name, f" use {old.new} instead" if old.new else "")
            if old.new is None:
                continue
            assert not {old.new, cls.model_fields[old.new].alias} & given.keys(), (
                f"Cannot provide deprecated parameter '{name}' and replacing parameter '{old.new}' together"
            )
            converted = old.convert(value)
            if converted is not None:
                fields[old.new] = converted
        return fields


def get_scalar_param(param_dict: dict[str, Any], param_name: str, param_default_value: Any) -> Any:
    """A key of a configuration, or its default."""
    return param_dict.get(param_name, param_default_value)


get_list_param = get_dict_param = get_scalar_param


def dict_raise_error_on_duplicate_keys(ordered_pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of a JSON reader. Raises ValueError for keys that are given twice."""
    found: dict[str, Any] = dict(ordered_pairs)
    if len(found) < len(ordered_pairs):
        names = [name for name, _ in ordered_pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Duplicate keys in DeepSpeed config: {twice}")
    return found
