# Toolchain: macOS arm64 from Linux, with zig's clang and LLVM's ld64.lld. tools/macos/wheel.py prepares the folder
# that NPU_SIM_MACOS_DIR names: bin/ (compilers), stubs/ (what to link against).
set(CMAKE_SYSTEM_NAME Darwin)
# macOS 13.
set(CMAKE_SYSTEM_VERSION 22.0.0)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_OSX_ARCHITECTURES arm64 CACHE STRING "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "$ENV{MACOSX_DEPLOYMENT_TARGET}" CACHE STRING "")
set(CMAKE_OSX_SYSROOT "" CACHE STRING "")

set(npu_macos "$ENV{NPU_SIM_MACOS_DIR}")
set(CMAKE_CXX_COMPILER ${npu_macos}/bin/c++)
set(CMAKE_AR ${npu_macos}/bin/ar CACHE FILEPATH "")
set(CMAKE_RANLIB ${npu_macos}/bin/ranlib CACHE FILEPATH "")
# The linker strips and names; nothing is left for these to do.
set(CMAKE_INSTALL_NAME_TOOL /bin/true CACHE FILEPATH "")
set(CMAKE_STRIP /bin/true CACHE FILEPATH "")
set(CMAKE_SKIP_RPATH ON CACHE BOOL "")

# Only modules are linked, so CMake's checks stop before linking.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-F${npu_macos}/stubs -L${npu_macos}/stubs")
# Headers of Apple's that zig does not carry; those that it has come first.
set(CMAKE_CXX_FLAGS_INIT "-idirafter ${CMAKE_CURRENT_LIST_DIR}/../tests/metal_standin/sdk")
