// NSObject, NSAutoreleasePool, NSString, NSArray, NSError, NSProcessInfo.
#include "metal_standin/foundation.hpp"

#include <Foundation/Foundation.hpp>

#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"

namespace npu::standin {
namespace {

struct Pool : Object {};

struct Array : Object {
  ~Array() {
    for (Object* object : objects) release(object);
  }
  std::vector<Object*> objects;
};

Class make_object_class() {
  const Class owner = define_class("NSObject", nullptr);
  method(
      owner, "retain", +[](Object* self, SEL) {
        retain(self);
        return self;
      });
  method(owner, "release", +[](Object* self, SEL) { release(self); });
  method(owner, "autorelease", +[](Object* self, SEL) { return autorelease(self); });
  // metal-cpp asks before it sends what older systems lack.
  method(
      owner, "respondsToSelector:", +[](Object* self, SEL, SEL selector) {
        return has_method(self->isa, selector);
      });
  method(
      owner, "methodSignatureForSelector:", +[](Object*, SEL, SEL) -> Object* { return nullptr; });
  method(owner, "init", +[](Object* self, SEL) { return self; });
  return owner;
}

Object* process_info() {
  static auto* const instance = make<Object>(objc_lookUpClass("NSProcessInfo"));
  return instance;
}

// Before metal-cpp's own initialisers, which look classes up.
__attribute__((constructor(101))) void define_foundation() {
  const Class pool = define_class("NSAutoreleasePool", object_class(), &destroy<Pool>);
  class_method(
      pool, "alloc", +[](Class owner, SEL) {
        push_pool();
        return make<Pool>(owner);
      });
  const auto drain = +[](Pool* self, SEL) {
    pop_pool();
    release(self);
  };
  method(pool, "release", drain);
  method(pool, "drain", drain);

  const Class string = define_class("NSString", object_class(), &destroy<String>);
  class_method(
      string,
      "stringWithCString:encoding:", +[](Class, SEL, const char* text, NS::UInteger encoding) {
        if (encoding != NS::UTF8StringEncoding) fail("a string is not in UTF-8");
        return autorelease(new_string(text));
      });
  method(string, "UTF8String", +[](String* self, SEL) { return self->text.c_str(); });

  const Class error = define_class("NSError", object_class(), &destroy<ErrorObject>);
  method(
      error, "localizedDescription",
      +[](ErrorObject* self, SEL) { return autorelease(new_string(self->text)); });
  method(error, "code", +[](ErrorObject* self, SEL) { return self->code; });

  const Class url = define_class("NSURL", object_class(), &destroy<String>);
  class_method(
      url, "fileURLWithPath:", +[](Class owner, SEL, String* path) {
        return autorelease(make<String>(owner, path->text));
      });

  const Class array = define_class("NSArray", object_class(), &destroy<Array>);
  class_method(
      array, "arrayWithObject:", +[](Class owner, SEL, Object* object) {
        if (object == nullptr) fail("an array of nil");
        auto* const made = make<Array>(owner);
        retain(object);
        made->objects.push_back(object);
        return autorelease(made);
      });
  class_method(
      array,
      "arrayWithObjects:count:", +[](Class owner, SEL, Object** objects, NS::UInteger count) {
        auto* const made = make<Array>(owner);
        for (NS::UInteger i = 0; i < count; ++i) {
          if (objects[i] == nullptr) fail("an array with nil");
          retain(objects[i]);
          made->objects.push_back(objects[i]);
        }
        return autorelease(made);
      });

  const Class info = define_class("NSProcessInfo", object_class());
  class_method(info, "processInfo", +[](Class, SEL) { return process_info(); });
  method(
      info,
      "isOperatingSystemAtLeastVersion:", +[](Object*, SEL, NS::OperatingSystemVersion version) {
        return settings().macos >= version.majorVersion;
      });
  method(
      info, "operatingSystemVersionString", +[](Object*, SEL) {
        return autorelease(new_string("Version " + std::to_string(settings().macos) + ".0 (Build " +
                                      settings().build + ")"));
      });
}

}  // namespace

Class object_class() {
  static const Class owner = make_object_class();
  return owner;
}

const std::vector<Object*>& objects_of(Object* array) {
  return static_cast<Array*>(array)->objects;
}

String* new_string(std::string text) {
  return make<String>(objc_lookUpClass("NSString"), std::move(text));
}

ErrorObject* new_error(std::int64_t code, std::string text) {
  return make<ErrorObject>(objc_lookUpClass("NSError"), code, std::move(text));
}

}  // namespace npu::standin
