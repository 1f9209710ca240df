// Classes, selectors, reference counts, autorelease pools.
#include "metal_standin/objc_runtime.hpp"

#include <cstring>
#include <mutex>
#include <vector>

#include "metal_standin/validation.hpp"

namespace npu::standin {
namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_map<std::string, const char*> selectors;
  std::map<std::string, Class> classes;
};

Registry& registry() {
  static auto* const instance = new Registry;  // outlives every static object
  return *instance;
}

std::vector<std::vector<Object*>>& pools() {
  static thread_local std::vector<std::vector<Object*>> instance;
  return instance;
}

std::uint64_t nothing() { return 0; }

std::uint64_t unknown(id self, SEL selector) {
  fail(std::string("[") + self->isa->name + " " + sel_getName(selector) +
       "]: the stand-in has no such method");
}

Method* find(Class owner, SEL selector) {
  for (; owner != nullptr; owner = owner->super) {
    if (const auto found = owner->methods.find(selector); found != owner->methods.end()) {
      return &found->second;
    }
  }
  return nullptr;
}

template <class Visit>
void each_method(const Visit& visit) {
  const std::lock_guard lock(registry().mutex);
  for (const auto& [name, owner] : registry().classes) {
    for (auto& [selector, method] : owner->isa->methods) visit(method);
    for (auto& [selector, method] : owner->methods) visit(method);
  }
}

}  // namespace

Class define_class(const char* name, Class super, void (*destroy)(id)) {
  auto* const meta = new objc_class;
  auto* const made = new objc_class;
  meta->isa = nullptr;
  meta->super = super != nullptr ? super->isa : nullptr;
  meta->name = made->name = name;
  made->isa = meta;
  made->super = super;
  made->destroy = destroy;
  const std::lock_guard lock(registry().mutex);
  registry().classes[name] = made;
  return made;
}

Class define_class(const char* name, Class super) {
  return define_class(name, super, &standin::destroy<Object>);
}

void add_method(Class owner, const char* selector, IMP implementation) {
  Method& method = owner->methods[sel_registerName(selector)];
  method.implementation = implementation;
  const std::string name = owner->name;
  method.name = name + " " + selector;
  // References may be given back anywhere; the classes of the stand-in's own do nothing.
  method.needs_pool =
      name != "NSObject" && name != "NSAutoreleasePool" && !name.starts_with("Standin");
}

bool has_method(Class owner, SEL selector) { return find(owner, selector) != nullptr; }

void retain(Object* object) { object->references.fetch_add(1); }

void release(Object* object) {
  const std::int64_t left = object->references.fetch_sub(1) - 1;
  if (left > 0) return;
  if (left < 0) {
    report(std::string("an object of class ") + object->isa->name + " is released too often");
    return;
  }
  if (object->isa->in_use != nullptr && object->isa->in_use(object)) {
    report(std::string("an object of class ") + object->isa->name +
           " is released while commands still use it");
    return;
  }
  object->isa->live.fetch_sub(1);
  object->isa->destroy(object);
}

void add_to_pool(Object* object) {
  if (pools().empty()) {
    report(std::string("an object of class ") + object->isa->name +
           " is autoreleased without a pool and leaks");
    return;
  }
  pools().back().push_back(object);
}

void push_pool() { pools().emplace_back(); }

void pop_pool() {
  if (pools().empty()) {
    report("an autorelease pool is drained twice or on another thread");
    return;
  }
  const std::vector<Object*> objects = std::move(pools().back());
  pools().pop_back();
  for (auto object = objects.rbegin(); object != objects.rend(); ++object) release(*object);
}

bool leave_out(const std::string& which, std::int64_t number) {
  bool known = false;
  each_method([&](Method& method) {
    if (method.name != which) return;
    method.sent = 0;
    method.left_out = number;
    known = true;
  });
  return known;
}

void reset_messages() {
  each_method([](Method& method) {
    method.sent = 0;
    method.left_out = -1;
  });
}

std::uint64_t messages_sent(const std::string& which) {
  std::uint64_t sent = 0;
  each_method([&](const Method& method) {
    if (method.name == which) sent += method.sent;
  });
  return sent;
}

std::map<std::string, std::int64_t> live_objects() {
  const std::lock_guard lock(registry().mutex);
  std::map<std::string, std::int64_t> live;
  for (const auto& [name, owner] : registry().classes) live[name] = owner->live;
  return live;
}

}  // namespace npu::standin

extern "C" {

// Called by objc_send.cpp with every argument register saved.
IMP npu_standin_lookup(id self, SEL selector) {
  using namespace npu::standin;
  Method* const method = find(self->isa, selector);
  if (method == nullptr) return reinterpret_cast<IMP>(&unknown);
  if (method->needs_pool && pools().empty()) {
    report("[" + method->name + "] is sent without an autorelease pool");
  }
  const auto number =
      static_cast<std::int64_t>(method->sent.fetch_add(1, std::memory_order_relaxed)) + 1;
  const std::int64_t left_out = method->left_out.load(std::memory_order_relaxed);
  if (left_out == 0 || left_out == number) return reinterpret_cast<IMP>(&nothing);
  return method->implementation;
}

Class objc_lookUpClass(const char* name) {
  using namespace npu::standin;
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().classes.find(name);
  return found == registry().classes.end() ? nullptr : found->second;
}

Class objc_getClass(const char* name) { return objc_lookUpClass(name); }

Protocol* objc_getProtocol(const char*) { return nullptr; }

SEL sel_registerName(const char* name) {
  using namespace npu::standin;
  const std::lock_guard lock(registry().mutex);
  const auto [entry, added] = registry().selectors.try_emplace(name, nullptr);
  if (added) entry->second = strdup(name);
  return reinterpret_cast<SEL>(const_cast<char*>(entry->second));
}

// metal-cpp's headers name these, for functions that take blocks; nothing here does.
void* _NSConcreteStackBlock[32];
void _Block_object_assign(void*, const void*, int) { npu::standin::fail("a block is copied"); }
void _Block_object_dispose(const void*, int) { npu::standin::report("a block is destroyed"); }

const char* sel_getName(SEL selector) { return reinterpret_cast<const char*>(selector); }

}  // extern "C"
