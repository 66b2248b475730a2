"""What every folder of tests needs."""

from __future__ import annotations

import signal

# A shell's background jobs ignore SIGINT, and so would the programs whose answer to it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
