"""What the stand-in is worth: each thing that the Metal device does is left out once, and a test
that passes with it must fail without it.
"""

from __future__ import annotations

import gc

import pytest

from npu_runtime.errors import NpuError
from tests.metal_standin.guards import KINDS, WORDS, guards, sources
from tests.metal_standin.messages import BARRIER
from tests.metal_standin.models import chain, is_right, run_chain
from tests.metal_standin.mutate import instrumented, layers
from tests.metal_standin.mutations import MUTATIONS, UNNOTICED
from tests.metal_standin.standin import Standin

# Left out wherever it is sent, each of these must be noticed.
MESSAGES = (
    "MTLCommandBuffer commit",
    "MTLCommandBuffer waitUntilCompleted",
    "MTLComputeCommandEncoder endEncoding",
    "MTLComputeCommandEncoder setComputePipelineState:",
    "MTLComputeCommandEncoder setBuffers:offsets:withRange:",
    "MTLComputeCommandEncoder dispatchThreadgroups:threadsPerThreadgroup:",
    "MTLCompileOptions setFastMathEnabled:",
    "MTLCompileOptions setLanguageVersion:",
    "MTLDevice newCommandQueue",
    "MTLDevice newLibraryWithSource:options:error:",
    "MTLDevice newComputePipelineStateWithDescriptor:options:reflection:error:",
    "MTLDevice newBufferWithLength:options:",
    "MTLLibrary newFunctionWithName:constantValues:error:",
    "MTLComputePipelineDescriptor setComputeFunction:",
    "MTLCommandQueue commandBufferWithUnretainedReferences",
    "MTLCommandBuffer computeCommandEncoderWithDispatchType:",
)


def _noticed(standin: Standin) -> bool:
    """Whether a run fails, is wrong, or gives the stand-in something to report."""
    try:
        right = is_right(run_chain(standin.device()))
    except NpuError:
        right = False
    gc.collect()
    standin.reset()
    return bool(standin.take_findings()) or not right


def _sent(standin: Standin, message: str) -> int:
    """How often one run sends a message."""
    standin.reset()
    assert is_right(run_chain(standin.device()))
    sent = standin.messages(message)
    standin.reset()
    return sent


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_left_out_is_noticed(standin: Standin, message: str) -> None:
    assert _sent(standin, message) > 0
    standin.leave_out(message)
    assert _noticed(standin)


def test_every_single_barrier_is_needed(standin: Standin) -> None:
    barriers = _sent(standin, BARRIER)
    assert barriers >= 3
    for number in range(1, barriers + 1):
        standin.leave_out(BARRIER, number)
        assert _noticed(standin), f"barrier {number} of {barriers} can go"


def test_every_single_dispatch_is_needed(standin: Standin) -> None:
    message = "MTLComputeCommandEncoder dispatchThreadgroups:threadsPerThreadgroup:"
    names = [call.name for call in chain()[0].kernel_calls]
    assert _sent(standin, message) == len(names)
    for number, name in enumerate(names, 1):
        # Nothing in this program reads padding.
        if not name.endswith(".padding"):
            standin.leave_out(message, number)
            assert _noticed(standin), f"dispatch {name} can go"


def test_every_single_pipeline_is_needed(standin: Standin) -> None:
    message = "MTLComputeCommandEncoder setComputePipelineState:"
    for number in range(1, _sent(standin, message) + 1):
        standin.leave_out(message, number)
        assert _noticed(standin), f"message {number} can go"


def _objects_left(standin: Standin) -> dict[str, int]:
    device = standin.device()
    assert is_right(run_chain(device))
    del device
    gc.collect()
    return standin.live_objects()


def test_every_single_release_is_needed(standin: Standin) -> None:
    balanced = _objects_left(standin)
    standin.reset()
    assert _objects_left(standin) == balanced
    releases = standin.messages("NSObject release")
    assert releases > 10
    # Objects are released again and again: a sample says as much as all.
    for number in range(1, releases + 1, max(1, releases // 12)):
        standin.reset()
        before = standin.live_objects()
        standin.leave_out("NSObject release", number)
        assert _objects_left(standin) != before, f"release {number} of {releases} can go"


def test_every_single_pool_is_drained(standin: Standin) -> None:
    _objects_left(standin)
    standin.reset()
    _objects_left(standin)
    for number in range(1, standin.messages("NSAutoreleasePool release") + 1):
        standin.reset()
        before = standin.live_objects()
        standin.leave_out("NSAutoreleasePool release", number)
        assert _objects_left(standin) != before, f"pool {number} can stay"
        standin.take_findings()


def test_every_guard_is_a_mutation() -> None:
    """Whether a test fails with each of them takes a while: ``make mutate-metal``."""
    found = guards()
    texts = sources()
    for word in WORDS:
        listed = {(g.file, g.at + g.text.index(word)) for g in found if word in g.text}
        assert len(listed) == sum(text.count(word) for text in texts.values()), word
    assert {guard.what.split(":")[0] for guard in found} == set(KINDS)
    assert set(UNNOTICED) <= {(guard.file, guard.what) for guard in found}
    # Each text stands once, and each mutation has its place in some source.
    in_layers = layers(MUTATIONS)
    assert sorted(n for layer in in_layers for n in layer) == list(range(len(MUTATIONS)))
    for layer in in_layers:
        whole = "".join(instrumented(MUTATIONS, layer).values())
        assert all(f"npu_mutant({number})" in whole for number in layer)
