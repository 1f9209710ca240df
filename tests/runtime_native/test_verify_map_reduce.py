"""The verifier's rules for the two programs of a map_reduce dispatch: one fault per rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels.scalar_ops import LOAD, STORE, Instruction
from npu_runtime.errors import ProgramError
from tests.cpu.elementwise_code import load, op, store
from tests.cpu.map_reduce_code import hand_over, map_reduce, reduced
from tests.cpu.single_dispatch import SingleDispatch

MAP = (load(0, 0), op("abs_f", 1, 0), hand_over(1))
FINISH = (reduced(0), store(0, 0))


def dispatch(
    map_code: Sequence[Instruction] = MAP,
    finish_code: Sequence[Instruction] = FINISH,
    dtype: str = "float32",
    shape: tuple[int, ...] = (1, 1, 2, 1, 1, 3),
) -> SingleDispatch:
    x, out = np.zeros(shape, np.float32), np.zeros(shape[:3], np.float32)
    return map_reduce("sum", dtype, map_code, finish_code, [x], [out])


def test_the_program_is_good() -> None:
    dispatch().run_in_place()


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no_hand_over": ({"map_code": MAP[:2]}, "instruction 1: the map does not end with a store"),
    "store_in_map": (
        {"map_code": (load(0, 0), hand_over(0), hand_over(0))},
        "instruction 1: a store before the end of the map",
    ),
    "map_stores_output": (
        {"map_code": (*MAP[:2], store(0, 1))},
        "instruction 2: the map stores to output 0",
    ),
    "reduced_in_map": ({"map_code": (reduced(0), hand_over(0))}, "instruction 0: input 7 is abs"),
    "absent_input": ({"map_code": (load(0, 6), hand_over(0))}, "instruction 0: input 6 is absent"),
    "beyond_inputs": ({"map_code": (load(0, 9), hand_over(0))}, "instruction 0: input 9 is abs"),
    "hand_over_late": (
        {"finish_code": (reduced(0), store(0, 0), hand_over(0))},
        "instruction 5: output 3 is absent",
    ),
    "beyond_outputs": (
        {"finish_code": (reduced(0), store(0, 0), store(2, 0))},
        "instruction 5: output 2 is absent",
    ),
    "registers_end": (
        {"finish_code": (reduced(0), op("add_f", 0, 0, 1), store(0, 0))},
        "instruction 4: register 1 is read before it is written",
    ),
    "unstored": ({"finish_code": ()}, "output 0 is never stored"),
    "accumulator_type": ({"dtype": "int64"}, "instruction 2: register 1 holds f, l is read"),
    "accumulator_dtype": ({"dtype": "float16"}, f"dtype={DTYPES['float16'].id}"),
    "no_map": ({"map_code": ()}, "rule 'num_map >= 1'"),
    "nothing_to_reduce": ({"shape": (1, 1, 2, 1, 0, 3)}, "rule 'in0.d4 >= 1'"),
    "unused_words": (
        {"map_code": (Instruction(LOAD, 0, a=0, b=1), hand_over(0))},
        f"a word that operation {LOAD} does not use",
    ),
    "unused_store": (
        {"finish_code": (reduced(0), Instruction(STORE, 0, a=0, c=4))},
        f"a word that operation {STORE} does not use",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    arguments, message = FAULTS[name]
    with pytest.raises(ProgramError) as caught:
        dispatch(**arguments)
    assert message in str(caught.value)
