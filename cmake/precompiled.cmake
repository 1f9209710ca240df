# Option NPU_SIM_PRECOMPILE: headers that nearly every file includes are parsed once per target. For builds whose
# compile time matters more than anything (tests); the others hold each file to its own includes. With clang only: GCC 12
# crashes on files that have options of their own.
option(NPU_SIM_PRECOMPILE "Parse common headers once per target" OFF)
set(NPU_COMMON_HEADERS <algorithm> <array> <atomic> <bit> <cmath> <cstddef> <cstdint> <cstdlib>
    <cstring> <filesystem> <functional> <limits> <map> <memory> <mutex> <optional> <span>
    <stdexcept> <string> <string_view> <system_error> <thread> <utility> <vector>)

# npu_precompile(target [header...]): the common headers, and further ones that most of the target's files include.
function(npu_precompile target)
  if(NPU_SIM_PRECOMPILE AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    target_precompile_headers(${target} PRIVATE ${NPU_COMMON_HEADERS} ${ARGN})
  endif()
endfunction()
