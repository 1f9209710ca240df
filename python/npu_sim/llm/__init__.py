"""npu_sim.llm: decoder-only language models, from a Hugging Face directory to generated text.

llm = LLM.from_pretrained("path/to/model")
for piece in llm.generate("Once upon a time", max_new_tokens=50):
    print(piece, end="")
"""

from npu_sim.llm.checkpoint import UnusedTensorsWarning
from npu_sim.llm.errors import (
    CacheFullError,
    LLMError,
    ModelFilesError,
    PromptError,
    UnsupportedModelError,
)
from npu_sim.llm.generation import Generation, Piece, TextStream
from npu_sim.llm.model import LLM

__all__ = [
    "LLM",
    "CacheFullError",
    "Generation",
    "LLMError",
    "ModelFilesError",
    "Piece",
    "PromptError",
    "TextStream",
    "UnsupportedModelError",
    "UnusedTensorsWarning",
]
