// Commands for the GPU: a run in one command buffer, waited for once.
#pragma once

#include <vector>

#include "metal/entry_plan.hpp"
#include "metal/metal_cpp.hpp"
#include "runtime/device.hpp"

namespace npu::metal {

// Runs an entry point whose arguments are complete, and waits. Allocates nothing on the way; all
// that the GPU touches must stay alive until this returns, and an autorelease pool be there. Throws
// kDevice, kOutOfMemory or kDeviceUnavailable with the system's message and the dispatch that
// fails.
void submit(MTL::CommandQueue& queue, const Program& program, const EntryPlan& plan,
            const Arguments& arguments);

// As submit(), with a command buffer for each dispatch, and appends what the GPU's clock says of
// them.
void submit_timed(MTL::CommandQueue& queue, const Program& program, const EntryPlan& plan,
                  const Arguments& arguments, std::vector<DispatchTime>& times);

}  // namespace npu::metal
