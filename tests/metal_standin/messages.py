"""Objective-C messages that several tests count or have go wrong: class and selector."""

BARRIER = "MTLComputeCommandEncoder memoryBarrierWithScope:"
COMMIT = "MTLCommandBuffer commit"
DISPATCH = "MTLComputeCommandEncoder dispatchThreadgroups:threadsPerThreadgroup:"
QUEUE = "MTLCommandQueue commandBufferWithUnretainedReferences"
WAIT = "MTLCommandBuffer waitUntilCompleted"
