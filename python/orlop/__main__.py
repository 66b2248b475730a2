"""`python -m orlop`: the `orlop` command."""

import sys

from .cli.main import main

sys.exit(main())
