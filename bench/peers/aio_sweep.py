"""DeepSpeed's own tuner's method for its "aio" block, in one process: the same space, operations and score.

usage: python -m peers.aio_sweep FOLDER BYTES        the best block as JSON on the last line

The tuner that comes with DeepSpeed runs a program for each of its 64 settings, reading and writing a file once to warm
up and once timed, and takes the greatest sum of both rates. That takes half an hour, of which a minute is I/O.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from . import end_with_parent

_MIB = 1 << 20
# The tuner's space, and DeepSpeed's defaults.
_SPACE = list(itertools.product((_MIB, 8 * _MIB), (32, 128), (True, False), (False, True), (1, 2, 4, 8)))
_DEFAULTS = (_MIB, 8, True, False, 1)


def block_of(setting: tuple[int, int, bool, bool, int]) -> dict[str, Any]:
    """Under the names that DeepSpeed reads; its tuner prints one that it ignores, and booleans as text."""
    size, depth, overlap, single, parallel = setting
    return {
        "block_size": size,
        "queue_depth": depth,
        "overlap_events": overlap,
        "single_submit": single,
        "intra_op_parallelism": parallel,
    }


def _rates(block: dict[str, Any], file: Path, count: int) -> tuple[float, float]:
    """GB/s read and written."""
    import torch
    from deepspeed.ops.op_builder import AsyncIOBuilder

    names = ("block_size", "queue_depth", "single_submit", "overlap_events", "intra_op_parallelism")
    handle = AsyncIOBuilder().load().aio_handle(*(block[name] for name in names))
    memory = handle.new_cpu_locked_tensor(count, torch.empty(0, dtype=torch.uint8))
    timed = [0.0, 0.0]
    for _ in range(2):  # the first warms up
        for i, call in enumerate((handle.async_pwrite, handle.async_pread)):
            begin = time.perf_counter()
            call(memory, str(file), 0)
            handle.wait()
            timed[i] = time.perf_counter() - begin
    handle.free_cpu_locked_tensor(memory)
    return count * 1e-9 / timed[1], count * 1e-9 / timed[0]


def main() -> None:
    end_with_parent.ask()
    file, count = Path(sys.argv[1]) / "aio_sweep", int(sys.argv[2])
    best: tuple[float, dict[str, Any]] = (0.0, {})
    for setting in [_DEFAULTS, *_SPACE]:
        block = block_of(setting)
        read, write = _rates(block, file, count)
        print(f"{read:.2f} GB/s read, {write:.2f} written: {block}", file=sys.stderr, flush=True)
        best = max(best, (read + write, block), key=lambda pair: pair[0])
    file.unlink()
    print(json.dumps(best[1]), flush=True)


if __name__ == "__main__":
    main()
