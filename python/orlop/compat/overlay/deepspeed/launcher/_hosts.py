"""Which machines, and which devices of each: hostfiles and the filters of a command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from orlop.errors import ConfigError, InvalidArgumentError

Hosts = dict[str, list[int]]  # a machine's name, and the devices ("slots") on it

_LINE = re.compile(r"(?P<host>\S+)\s+slots=(?P<slots>\d+)")


def fetch_hostfile(hostfile_path: str | Path) -> dict[str, int] | None:
    """Machines and how many devices each has, in the file's order; None when there is no such file.

    Lines are `name slots=N`; what follows a # is a comment. Raises ConfigError (a ValueError) for other lines, a
    machine named twice, and a file without any.
    """
    path = Path(hostfile_path)
    if not path.is_file():
        return None
    return _parse_hostfile(path.read_text().splitlines(), str(path))


def _parse_hostfile(lines: Iterable[str], name: str = "lines") -> dict[str, int]:
    hosts: dict[str, int] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ConfigError(f'hostfile: on {name}, line {number} ("{line}"): must be a name and slots=N')
        if found["host"] in hosts:
            raise ConfigError(
                f"hostfile: on {name}, line {number}: {found['host']} has been named before: name it once"
            )
        hosts[found["host"]] = int(found["slots"])
    if not hosts:
        raise ConfigError(f"hostfile: on {name}: it names no machine: write lines like `worker-1 slots=4`")
    return hosts


def parse_resource_filter(
    host_info: Mapping[str, Iterable[int]], include_str: str = "", exclude_str: str = ""
) -> Hosts:
    """The machines and devices that filters leave, in the order of `host_info`.

    A filter is `name:0,1@other:2`: devices of machines; a name alone means all of its devices. With `include_str` only
    those are left, with `exclude_str` all but those. Raises InvalidArgumentError (a ValueError) for both at once, for
    machines and devices that are not in `host_info`, and for what cannot be read.
    """
    every = {host: list(slots) for host, slots in host_info.items()}
    if include_str and exclude_str:
        raise InvalidArgumentError(
            f'filter: on include "{include_str}" and exclude "{exclude_str}": give one of them: each says all'
        )
    named = _parse_filter(include_str or exclude_str, every)
    if include_str:
        return {host: [slot for slot in slots if slot in named[host]] for host, slots in every.items() if host in named}
    kept = {host: [slot for slot in slots if slot not in named.get(host, ())] for host, slots in every.items()}
    return {host: slots for host, slots in kept.items() if slots}


def _parse_filter(text: str, every: Hosts) -> Hosts:
    named: Hosts = {}
    for part in text.split("@") if text else []:
        host, colon, slots = part.strip().partition(":")
        if host not in every:
            raise InvalidArgumentError(f'filter: on "{text}": there is no machine {host}; there are {", ".join(every)}')
        chosen = _parse_slots(slots, text) if colon else every[host]
        absent = [slot for slot in chosen if slot not in every[host]]
        if absent:
            raise InvalidArgumentError(f'filter: on "{text}": {host} has no device {absent[0]}; it has {every[host]}')
        named.setdefault(host, []).extend(chosen)
    return named


def _parse_slots(text: str, whole: str) -> list[int]:
    try:
        return [int(slot) for slot in text.split(",")]
    except ValueError:
        raise InvalidArgumentError(
            f'filter: on "{whole}": "{text}" is no list of devices: write it like `worker-1:0,1@worker-2`'
        ) from None
