// A small Objective-C runtime for x86-64 Linux: classes, selectors, reference counts, autorelease
// pools. It counts messages, and can leave some out so that tests see what then goes wrong.
#pragma once

#include <objc/message.h>
#include <objc/runtime.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

namespace npu::standin {

struct Method {
  IMP implementation = nullptr;
  std::string name;  // e.g. "MTLBuffer contents"
  // Metal and Foundation may autorelease in whatever they do.
  bool needs_pool = false;
  std::atomic<std::uint64_t> sent{0};
  // Messages that are left out: none, all (0), or one by its number from 1.
  std::atomic<std::int64_t> left_out{-1};
};

}  // namespace npu::standin

// A class is an object whose isa is its metaclass; a metaclass has none.
struct objc_class : objc_object {
  Class super = nullptr;
  const char* name = nullptr;
  std::unordered_map<SEL, npu::standin::Method> methods;
  void (*destroy)(id object) = nullptr;
  // Whether commands still work on an object: it is then reported, not destroyed.
  bool (*in_use)(id object) = nullptr;
  std::atomic<std::int64_t> live{0};  // objects
};

namespace npu::standin {

// What every object begins with. No virtual functions: the class comes first.
struct Object : objc_object {
  std::atomic<std::int64_t> references{1};
};

// Makes a class; to be called while libraries are initialised, since look-ups take no lock.
Class define_class(const char* name, Class super, void (*destroy)(id));
Class define_class(const char* name, Class super);

void add_method(Class owner, const char* selector, IMP implementation);
template <class R, class... A>
void method(Class owner, const char* selector, R (*function)(A...)) {
  add_method(owner, selector, reinterpret_cast<IMP>(function));
}
template <class R, class... A>
void class_method(Class owner, const char* selector, R (*function)(A...)) {
  add_method(owner->isa, selector, reinterpret_cast<IMP>(function));
}

bool has_method(Class owner, SEL selector);

// An object of C++ type T with one reference, whose class define_class() was told to destroy it.
template <class T, class... A>
T* make(Class owner, A&&... arguments) {
  T* const object = new T(std::forward<A>(arguments)...);
  object->isa = owner;
  owner->live.fetch_add(1);
  return object;
}
template <class T>
void destroy(id object) {
  delete static_cast<T*>(object);
}

void retain(Object* object);
void release(Object* object);
// The innermost pool of the calling thread releases it.
template <class T>
T* autorelease(T* object);
void add_to_pool(Object* object);
void push_pool();
void pop_pool();

template <class T>
T* autorelease(T* object) {
  if (object != nullptr) add_to_pool(object);
  return object;
}

// Leaves messages out: `which` is a method's name, `number` counts its messages from 1, 0 means
// all. False where there is no such method.
bool leave_out(const std::string& which, std::int64_t number);
// Sets all counts back and leaves nothing out any more.
void reset_messages();
std::uint64_t messages_sent(const std::string& which);
// Objects alive by class.
std::map<std::string, std::int64_t> live_objects();

}  // namespace npu::standin
