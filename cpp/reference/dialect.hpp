// The kernel dialect for host code: compat/host.h and what every kernel may use.
#pragma once

#include "compat/host.h"

namespace npu::reference {

#include "common.h"

}  // namespace npu::reference
