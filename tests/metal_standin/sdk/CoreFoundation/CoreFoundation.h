// What metal-cpp asks of Apple's header of this name, for a build on Linux.
#pragma once
#include <TargetConditionals.h>
#include <math.h>

#include <cstddef>
#include <cstdint>
typedef double CFTimeInterval;
