#!/usr/bin/env python3
"""Writes the fp32 weights of the checkpoints beside this file: ./zero_to_fp32.py . OUTPUT_DIRECTORY (--help for more).

save_checkpoint puts a copy beside the file `latest`. It needs the package orlop and no other.
"""

from __future__ import annotations

import sys

from orlop.compat.fp32_weights import main

if __name__ == "__main__":
    sys.exit(main())
