// The one exception type of the native code; bindings turn each code into a Python exception class.
#pragma once

#include <stdexcept>
#include <string>

namespace npu {

enum class ErrorCode {
  kInvalidProgram,      // the .npubin is damaged or breaks a rule of the format
  kUnsupportedVersion,  // the .npubin is of a version that this reader cannot open
  kInvalidArgument,     // a caller's input, weight or name does not fit
  kOutOfMemory,         // the device cannot give the memory asked for
  kDeviceUnavailable,   // no such device on this machine
  kDevice,              // the device failed while it ran
  kIo,                  // a file cannot be read
  kInternal,            // a rule of npu_sim's own was broken
};

// what() names the section, dispatch, op, tensor or file, the rule, the value found and the way
// out.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace npu
