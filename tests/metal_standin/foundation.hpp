// Strings, errors and arrays.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metal_standin/objc_runtime.hpp"

namespace npu::standin {

struct String : Object {
  explicit String(std::string t) : text(std::move(t)) {}
  std::string text;
};

struct ErrorObject : Object {
  ErrorObject(std::int64_t c, std::string t) : code(c), text(std::move(t)) {}
  std::int64_t code;
  std::string text;
};

// NSObject, whose methods every object has. Defined on the first call: classes are made before
// metal-cpp looks them up, in no order of files.
Class object_class();

// One reference each.
String* new_string(std::string text);
ErrorObject* new_error(std::int64_t code, std::string text);

// Of an NSArray.
const std::vector<Object*>& objects_of(Object* array);

}  // namespace npu::standin
