"""A start of a language model in a process of its own: seconds and memory, as JSON.

``python -m npu_sim.bench.language.start FOLDER OPTIONS`` (OPTIONS: JSON of LLM.from_pretrained's).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def measure(folder: Path, prompt: int, options: dict[str, Any]) -> dict[str, Any]:
    """Load, read a prompt of ``prompt`` tokens, make 16 more."""
    start = time.perf_counter()
    from npu_sim.bench.language.stepper import peak_rss_bytes
    from npu_sim.llm import LLM

    imported = peak_rss_bytes()
    begin = time.perf_counter()
    llm = LLM.from_pretrained(folder, progress=False, **options)
    loaded = time.perf_counter()
    pieces = iter(llm.generate(list(range(1, prompt + 1)), max_new_tokens=17))
    next(pieces)
    first = time.perf_counter()
    for _ in pieces:
        pass
    engine = llm.engine(1)
    return {
        "import_s": begin - start,
        "load_s": loaded - begin,
        "first_token_s": first - loaded,
        "peak_rss_bytes": peak_rss_bytes(),
        "imports_rss_bytes": imported,
        "weight_bytes": engine.weight_bytes,
        "kv_cache_bytes": engine.cache_bytes,
        "imported_torch": "torch" in sys.modules,
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    print(json.dumps(measure(Path(sys.argv[1]), given.pop("prompt"), given)))
