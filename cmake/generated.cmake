# Target npu_generated: headers written from the records in python/npu_compiler by the scripts in tools/.
file(GLOB NPU_RECORD_FILES CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/python/npu_compiler/kernels/*.py)
list(APPEND NPU_RECORD_FILES ${PROJECT_SOURCE_DIR}/python/npu_compiler/dtypes.py
     ${PROJECT_SOURCE_DIR}/python/npu_compiler/program/schema.py)
file(GLOB NPU_GENERATOR_FILES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/generators/*.py)
file(GLOB NPU_SHADER_FILES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/shaders/*.metal
     ${PROJECT_SOURCE_DIR}/shaders/*.h ${PROJECT_SOURCE_DIR}/shaders/compat/*)

add_custom_command(
  OUTPUT ${NPU_GENERATED_DIR}/npubin_schema.hpp ${NPU_GENERATED_DIR}/npu_kernel_params.h
         ${NPU_GENERATED_DIR}/kernel_table.cpp
  COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/generate_headers.py --out
          ${NPU_GENERATED_DIR}
  DEPENDS ${NPU_RECORD_FILES} ${NPU_GENERATOR_FILES}
          ${PROJECT_SOURCE_DIR}/tools/generate_headers.py
  COMMENT "Generating headers from the kernel records" VERBATIM)
# A stamp, since the list of generated shader texts follows from the records.
add_custom_command(
  OUTPUT ${NPU_GENERATED_DIR}/shaders.stamp
  COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/generate_shaders.py --out
          ${NPU_GENERATED_DIR}
  COMMAND ${CMAKE_COMMAND} -E touch ${NPU_GENERATED_DIR}/shaders.stamp
  DEPENDS ${NPU_RECORD_FILES} ${NPU_GENERATOR_FILES} ${NPU_SHADER_FILES}
          ${PROJECT_SOURCE_DIR}/tools/generate_shaders.py
          ${NPU_GENERATED_DIR}/npu_kernel_params.h
  COMMENT "Generating shader entry points from the kernel records" VERBATIM)

add_custom_target(npu_generated_files
  DEPENDS ${NPU_GENERATED_DIR}/npubin_schema.hpp ${NPU_GENERATED_DIR}/npu_kernel_params.h
          ${NPU_GENERATED_DIR}/kernel_table.cpp ${NPU_GENERATED_DIR}/shaders.stamp)
add_library(npu_generated INTERFACE)
target_include_directories(npu_generated INTERFACE ${NPU_GENERATED_DIR})
add_dependencies(npu_generated npu_generated_files)

# The GPU devices compile these texts when they load a program, so a wheel carries them.
install(DIRECTORY ${NPU_GENERATED_DIR}/shaders/ DESTINATION npu_runtime/shaders
        FILES_MATCHING PATTERN "*.metal" PATTERN "*.cu")
