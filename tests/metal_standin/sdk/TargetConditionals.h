// What metal-cpp asks of Apple's header of this name, for a build on Linux.
#pragma once
#define TARGET_OS_OSX 1
#define TARGET_OS_MAC 1
#define TARGET_OS_IPHONE 0
#define TARGET_OS_SIMULATOR 0
