"""Files of a small model, as a user of the command line has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.npu_compiler.conftest import give_devices_back  # noqa: F401 (a fixture)
from tests.npu_runtime.programs import Case, SmallNet, build, small_net
from torch_ir import extract_ir


@dataclass(frozen=True)
class Files:
    """Paths of an IR, its program, weights and an input, and what PyTorch makes of them."""

    folder: Path
    ir: Path
    program: Path
    weights: Path
    image: Path
    case: Case


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """SmallNet on two 12x12 images."""
    folder = tmp_path_factory.mktemp("small")
    case = small_net()
    found = Files(
        folder,
        folder / "small_ir.json",
        folder / "small.npubin",
        folder / "small.safetensors",
        folder / "image.npy",
        case,
    )
    torch.manual_seed(0)
    extract_ir(SmallNet().eval(), torch.randn(2, 3, 12, 12), model_name="small").save(found.ir)
    build(SmallNet(), torch.randn(2, 3, 12, 12)).program.save(found.program)
    save_file(case.state_dict, found.weights)
    np.save(found.image, case.inputs[0])
    return found
