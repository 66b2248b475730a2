"""Lists of cores, as command lines write them."""

from __future__ import annotations

from orlop.errors import InvalidArgumentError


def parse_range_list(range_str: str) -> list[int]:
    """The numbers of a list such as "0,2-4,6": each part behind the one before.

    Raises InvalidArgumentError (a ValueError) for numbers that come twice or go down, and for what is no number.
    """
    numbers: list[int] = []
    for part in range_str.split(","):
        first, last = _ends(part, range_str)
        if last < first or (numbers and first <= numbers[-1]):
            raise InvalidArgumentError(f'range list: on "{range_str}": at "{part}" it does not go up; write 0,2-4,6')
        numbers += range(first, last + 1)
    return numbers


def _ends(part: str, whole: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    try:
        return int(first), int(last if dash else first)
    except ValueError:
        raise InvalidArgumentError(
            f'range list: on "{whole}": "{part}" is no number and no range; write 0,2-4,6'
        ) from None
