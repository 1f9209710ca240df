"""Runs the command line as ``python -m torch_ir``."""

import sys

from .cli import main

sys.exit(main())
