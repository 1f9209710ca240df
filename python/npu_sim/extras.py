"""Optional libraries: imported when first needed; a missing one says how to get it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from npu_sim.errors import MissingDependencyError

# Library -> what to hand to pip.
INSTALL = {
    "torch": "npu-sim[torch]",
    "transformers": "npu-sim[llm]",
    "tokenizers": "npu-sim[llm]",
    "jinja2": "npu-sim[llm]",
    "onnxruntime": "npu-sim[torch,bench]",
    "onnx": "npu-sim[torch,bench]",
    "onnxscript": "npu-sim[torch,bench]",
    "openvino": "npu-sim[torch,bench]",
    "llama_cpp": "llama-cpp-python",
    "matplotlib": "npu-sim[torch,bench]",
}


def install_hint(library: str) -> str:
    """The command that installs an optional library."""
    return f"pip install {INSTALL.get(library, library)}"


def installed(library: str) -> bool:
    """Whether an optional library can be found, without importing it."""
    return importlib.util.find_spec(library) is not None


def require(library: str, purpose: str) -> ModuleType:
    """Import an optional library; MissingDependencyError says what for and how to get it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        if installed(library):
            raise MissingDependencyError(f"{library} is installed but broken: {error}") from error
        raise MissingDependencyError(
            f"{purpose} needs {library}, which is not installed: {install_hint(library)}"
        ) from error
