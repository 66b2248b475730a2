"""`./dev bench peers`: plan, tune, measure, report."""

from __future__ import annotations

import signal
import sys

from . import environment, options, tables
from .errors import PeersError
from .progress import say
from .results import costs
from .run import Run
from .workspace import Workspace

_PAGES = (environment.ROOT / "docs/performance.md", environment.ROOT / "README.md")
_MARKERS = "peers table"
_INTERRUPTED = 128 + signal.SIGINT


def write(run: Run, report: str) -> None:
    if run.chosen.write_docs:
        tables.put(_PAGES[0], _MARKERS, report)
        rows = tables.few_rows(run.cells, costs(run.cells))
        tables.put(_PAGES[1], _MARKERS, tables.table(("beside DeepSpeed", ""), rows))


def main() -> int:
    chosen = options.parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if chosen.write_docs:
            for page in _PAGES:
                tables.check_markers(page, _MARKERS)
        with environment.taken(), Workspace(chosen.nvme_path) as workspace:
            run = Run(chosen, workspace)
            run.measure()
            report = run.report()
            print(report)
            write(run, report)
    except PeersError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing is left behind")
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
