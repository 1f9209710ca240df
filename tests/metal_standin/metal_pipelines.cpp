// MTLLibrary, MTLFunction, MTLComputePipelineState, and MTLBinaryArchive in a format of its own.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>

#include "metal_standin/foundation.hpp"
#include "metal_standin/metal_objects.hpp"
#include "metal_standin/settings.hpp"
#include "metal_standin/validation.hpp"

namespace npu::standin {
namespace {

// That the system's compiler knows: 3.0 came with macOS 13, 3.1 with 14.
NS::UInteger newest_language() {
  return MTL::LanguageVersion3_0 + (settings().macos >= 14 ? 1 : 0);
}

bool uses_bfloat(std::string_view text) {
  constexpr std::string_view kWord = "bfloat";
  for (auto at = text.find(kWord); at != text.npos; at = text.find(kWord, at + 1)) {
    // Comments speak of bfloat16.
    if (text.substr(at + kWord.size(), 2) != "16") return true;
  }
  return false;
}

// A reference to an object, given back in the end.
class Ref {
 public:
  ~Ref() {
    if (object_ != nullptr) release(object_);
  }
  void set(Object* object) {
    if (object != nullptr) retain(object);
    if (object_ != nullptr) release(object_);
    object_ = object;
  }
  Object* get() const { return object_; }

 private:
  Object* object_ = nullptr;
};

struct CompileOptions : Object {
  bool fast_math = true;
  std::uint64_t language = 0;
};

struct Library : Object {
  std::vector<Declaration> functions;
  std::map<std::uint64_t, std::string> constants;  // types of function constants by index
  std::size_t content = 0;                         // hash of the text
};

struct ConstantValues : Object {
  Constants values;
};

struct Function : Object {
  Declaration declaration;
  Constants constants;
  std::size_t content = 0;  // hash of the library's text
};

struct PipelineDescriptor : Object {
  Ref function;
  Ref archives;  // NSArray
  std::uint64_t max_threads = 0;
};

struct ArchiveDescriptor : Object {
  Ref url;
};

struct Archive : Object {
  std::set<std::string> entries;
  std::atomic<int> writers{0};
};

std::atomic<std::uint64_t> compiled{0};
constexpr const char* kArchiveHead = "stand-in archive";

// What a pipeline's code depends on.
std::string identity(const PipelineDescriptor& descriptor) {
  const auto& function = *static_cast<Function*>(descriptor.function.get());
  std::ostringstream out;
  out << function.declaration.name << ' ' << function.content << ' ' << descriptor.max_threads
      << ' ' << settings().build;
  for (const auto& [index, value] : function.constants) out << ' ' << index << '=' << value;
  return out.str();
}

Function* function_of(const PipelineDescriptor* descriptor) {
  auto* const function =
      descriptor != nullptr ? static_cast<Function*>(descriptor->function.get()) : nullptr;
  if (function == nullptr) fail("a pipeline of no function is asked for");
  return function;
}

void define_library() {
  const Class options = define_class("MTLCompileOptions", object_class(), &destroy<CompileOptions>);
  class_method(options, "alloc", +[](Class owner, SEL) { return make<CompileOptions>(owner); });
  method(
      options, "setFastMathEnabled:", +[](CompileOptions* self, SEL, bool enabled) {
        self->fast_math = enabled;
      });
  method(
      options, "setLanguageVersion:", +[](CompileOptions* self, SEL, NS::UInteger version) {
        self->language = version;
      });

  method(
      objc_lookUpClass("MTLDevice"), "newLibraryWithSource:options:error:",
      +[](Object*, SEL, String* source, CompileOptions* chosen, Object** error) -> Library* {
        if (chosen == nullptr || chosen->fast_math) {
          fail("a shader is compiled with fast math, which makes NaN undefined");
        }
        const std::string& text = source->text;
        if (chosen->language == 0) {
          fail("the version of the shading language is left to the system");
        }
        if (uses_bfloat(text) && chosen->language < MTL::LanguageVersion3_1) {
          fail("bfloat needs version 3.1 of the shading language");
        }
        if (chosen->language > newest_language()) {
          fail("macOS " + std::to_string(settings().macos) + " has no such shading language");
        }
        const std::string broken = settings().broken_shader;
        if (!broken.empty() && text.find("#line 1 \"shaders/" + broken) != std::string::npos) {
          *error = autorelease(new_error(3, broken + ":1:1: error: made to fail by a test"));
          return nullptr;
        }
        auto* const library = make<Library>(objc_lookUpClass("MTLLibrary"));
        library->functions = declarations(text);
        library->constants = declared_constants(text);
        library->content = std::hash<std::string>()(text);
        return library;
      });

  const Class library = define_class("MTLLibrary", object_class(), &destroy<Library>);
  method(
      library, "newFunctionWithName:constantValues:error:",
      +[](Library* self, SEL, String* name, ConstantValues* constants,
          Object** error) -> Function* {
        if (constants == nullptr) fail("a function is asked for without values of its constants");
        for (const auto& [index, value] : constants->values) {
          const auto declared = self->constants.find(index);
          if (declared == self->constants.end()) {
            fail("function constant " + std::to_string(index) + " is not in the shader's text");
          }
          if (declared->second != "npu_u32" && declared->second != "uint") {
            fail("function constant " + std::to_string(index) + " is of type " + declared->second);
          }
        }
        for (const Declaration& declaration : self->functions) {
          if (declaration.name != name->text) continue;
          auto* const function = make<Function>(objc_lookUpClass("MTLFunction"));
          function->declaration = declaration;
          function->constants = constants->values;
          function->content = self->content;
          return function;
        }
        *error = autorelease(new_error(1, "there is no function " + name->text));
        return nullptr;
      });
  define_class("MTLFunction", object_class(), &destroy<Function>);

  const Class values =
      define_class("MTLFunctionConstantValues", object_class(), &destroy<ConstantValues>);
  class_method(values, "alloc", +[](Class owner, SEL) { return make<ConstantValues>(owner); });
  method(
      values, "setConstantValues:type:withRange:",
      +[](ConstantValues* self, SEL, const std::uint32_t* given, MTL::DataType type,
          NS::Range range) {
        if (type != MTL::DataTypeUInt) fail("values of function constants are of another type");
        if (given == nullptr) fail("no values of function constants are given");
        for (NS::UInteger i = 0; i < range.length; ++i) {
          self->values[range.location + i] = given[i];
        }
      });
}

Pipeline* new_pipeline(PipelineDescriptor* descriptor, MTL::PipelineOption options,
                       Object** error) {
  const Function* const function = function_of(descriptor);
  bool found = false;
  if (descriptor->archives.get() != nullptr) {
    for (Object* archive : objects_of(descriptor->archives.get())) {
      found = found || static_cast<Archive*>(archive)->entries.contains(identity(*descriptor));
    }
  }
  if (!found && (options & MTL::PipelineOptionFailOnBinaryArchiveMiss) != 0) {
    *error = autorelease(new_error(1, "no archive has " + function->declaration.name));
    return nullptr;
  }
  if (!found) {
    ++compiled;
    std::this_thread::sleep_for(std::chrono::microseconds(settings().compile_us));
  }
  auto* const pipeline = make<Pipeline>(objc_lookUpClass("MTLComputePipelineState"));
  pipeline->declaration = function->declaration;
  pipeline->constants = function->constants;
  pipeline->max_threads = settings().max_threads;
  if (descriptor->max_threads != 0) {
    pipeline->max_threads = std::min(pipeline->max_threads, descriptor->max_threads);
  }
  return pipeline;
}

void define_pipeline() {
  const Class descriptor =
      define_class("MTLComputePipelineDescriptor", object_class(), &destroy<PipelineDescriptor>);
  class_method(
      descriptor, "alloc", +[](Class owner, SEL) { return make<PipelineDescriptor>(owner); });
  method(
      descriptor, "setComputeFunction:", +[](PipelineDescriptor* self, SEL, Object* function) {
        self->function.set(function);
      });
  method(
      descriptor, "setBinaryArchives:", +[](PipelineDescriptor* self, SEL, Object* archives) {
        self->archives.set(archives);
      });
  method(
      descriptor, "setMaxTotalThreadsPerThreadgroup:",
      +[](PipelineDescriptor* self, SEL, NS::UInteger threads) { self->max_threads = threads; });
  method(
      objc_lookUpClass("MTLDevice"),
      "newComputePipelineStateWithDescriptor:options:reflection:error:",
      +[](Object*, SEL, PipelineDescriptor* of, MTL::PipelineOption options, void*,
          Object** error) { return new_pipeline(of, options, error); });

  const Class pipeline =
      define_class("MTLComputePipelineState", object_class(), &destroy<Pipeline>);
  pipeline->in_use = &resource_in_use;
  method(
      pipeline, "maxTotalThreadsPerThreadgroup",
      +[](Pipeline* self, SEL) -> NS::UInteger { return self->max_threads; });
  method(
      pipeline, "threadExecutionWidth",
      +[](Pipeline*, SEL) -> NS::UInteger { return settings().simd_width; });
}

// An archive in the file of that name, or an empty one.
Archive* new_archive(ArchiveDescriptor* descriptor, Object** error) {
  auto* const archive = make<Archive>(objc_lookUpClass("MTLBinaryArchive"));
  if (descriptor->url.get() == nullptr) return archive;
  std::ifstream file(static_cast<String*>(descriptor->url.get())->text);
  std::string line;
  if (!std::getline(file, line) || line != kArchiveHead) {
    *error = autorelease(
        new_error(MTL::BinaryArchiveErrorInvalidFile, "the file is no archive (stand-in)"));
    release(archive);
    return nullptr;
  }
  while (std::getline(file, line)) archive->entries.insert(line);
  return archive;
}

bool write_archive(Archive* self, String* url, Object** error) {
  std::ofstream file;
  if (!settings().unwritable_archives) file.open(url->text, std::ios::trunc);
  file << kArchiveHead << '\n';
  for (const std::string& entry : self->entries) file << entry << '\n';
  file.close();
  if (file) return true;
  *error = autorelease(
      new_error(MTL::BinaryArchiveErrorInternalError, "the file cannot be written (stand-in)"));
  return false;
}

void define_archive() {
  const Class descriptor =
      define_class("MTLBinaryArchiveDescriptor", object_class(), &destroy<ArchiveDescriptor>);
  class_method(
      descriptor, "alloc", +[](Class owner, SEL) { return make<ArchiveDescriptor>(owner); });
  method(
      descriptor,
      "setUrl:", +[](ArchiveDescriptor* self, SEL, Object* url) { self->url.set(url); });
  method(
      objc_lookUpClass("MTLDevice"), "newBinaryArchiveWithDescriptor:error:",
      +[](Object*, SEL, ArchiveDescriptor* of, Object** error) { return new_archive(of, error); });

  const Class archive = define_class("MTLBinaryArchive", object_class(), &destroy<Archive>);
  method(
      archive, "addComputePipelineFunctionsWithDescriptor:error:",
      +[](Archive* self, SEL, PipelineDescriptor* of, Object**) {
        function_of(of);
        // Nothing says that archives may be changed by several threads.
        if (self->writers++ != 0) fail("two threads add to an archive at once");
        self->entries.insert(identity(*of));
        --self->writers;
        return true;
      });
  method(
      archive, "serializeToURL:error:", +[](Archive* self, SEL, String* url, Object** error) {
        return write_archive(self, url, error);
      });
}

}  // namespace

void define_pipelines() {
  define_library();
  define_pipeline();
  define_archive();
}

std::uint64_t compilations() { return compiled; }
void reset_compilations() { compiled = 0; }

}  // namespace npu::standin
