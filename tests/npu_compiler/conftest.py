"""Every compiler test verifies the graph after every pass."""

from __future__ import annotations

import os

os.environ["NPU_COMPILER_CHECK"] = "1"
