"""Times by the GPU's own clock: kernels in CUDA graphs with events, the bandwidth of reads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from tests.gpu.driver import Event, Graph, Memory, cuda
from tests.shaders.nvrtc import compile_cuda

_READ_BYTES = 1 << 32
_READ = """
extern "C" __global__ void read_all(const uint4* from, unsigned long long count, unsigned* to) {
  unsigned sum = 0;
  const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
  unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    const uint4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
    sum += a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w;
    sum += c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
  }
  if (sum == 1) *to = sum;
}
"""


def time_each(starts: Sequence[Callable[[], None]], rounds: int) -> tuple[list[float], float]:
    """The median time of each of ``starts``, one after the other as in a run, and of all of them
    without events in between, in microseconds.

    Each time includes the gap to the next kernel, as a graph has it.
    """
    events = [Event(cuda()) for _ in range(len(starts) + 1)]

    def marked() -> None:
        events[0].record()
        for start, event in zip(starts, events[1:], strict=True):
            start()
            event.record()

    def plain() -> None:
        for start in starts:
            start()

    graphs = [Graph(cuda(), commands) for commands in (marked, plain)]
    begin, end = Event(cuda()), Event(cuda())
    samples: list[list[float]] = []
    whole: list[float] = []
    for number in range(rounds + 3):
        graphs[0].start()
        cuda().synchronize()
        times = [b.microseconds_since(a) for a, b in pairwise(events)]
        begin.record()
        graphs[1].start()
        end.record()
        total = end.microseconds_since(begin)
        # The first rounds are for the clocks and caches.
        if number >= 3:
            samples.append(times)
            whole.append(total)
    return [median(column) for column in zip(*samples, strict=True)], median(whole)


def kernel(text: str, name: str, *values: int) -> Callable[[int, int], None]:
    """A kernel of CUDA C whose arguments are ``values`` (64 bits each); called with the numbers of
    its threadgroups and of their threads it is started.

    Raises RuntimeError where it does not compile.
    """
    code, log = compile_cuda(text, cuda().architecture)
    if not code:
        raise RuntimeError(log)
    function = cuda().function(cuda().load(code), name)
    memory = [ctypes.c_uint64(value) for value in values]
    pointers = (ctypes.c_void_p * len(memory))(*(ctypes.addressof(m) for m in memory))

    def start(groups: int, threads: int, _kept: object = memory) -> None:
        cuda().launch(function, (groups, 1, 1), (threads, 1, 1), pointers)

    return start


def read_bandwidth() -> float:
    """Bytes per second of a kernel that does nothing but read 4 GiB."""
    source, result = Memory(cuda(), _READ_BYTES), Memory(cuda(), 4)
    source.tile(np.random.default_rng(0).integers(0, 255, 1 << 20, np.uint8))
    read = kernel(_READ, "read_all", source.address, _READ_BYTES // 16, result.address)
    (time,), _ = time_each([lambda: read(2048, 256)], 10)
    return _READ_BYTES / time * 1e6


def empty_kernel() -> float:
    """Microseconds of a kernel that does nothing, in a graph of others that do nothing."""
    nothing = kernel('extern "C" __global__ void nothing() {}', "nothing")
    _, total = time_each([lambda: nothing(1, 32)] * 100, 20)
    return total / 100
