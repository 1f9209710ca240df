// The part of the Objective-C runtime's interface that metal-cpp uses; objc_runtime.cpp implements
// it.
#pragma once
#include <stddef.h>

typedef struct objc_class* Class;
struct objc_object {
  Class isa;
};
typedef struct objc_object* id;
typedef struct objc_selector* SEL;
typedef struct objc_object Protocol;
typedef void (*IMP)(void);

#ifdef __cplusplus
extern "C" {
#endif
Class objc_lookUpClass(const char* name);
Class objc_getClass(const char* name);
Protocol* objc_getProtocol(const char* name);
SEL sel_registerName(const char* name);
const char* sel_getName(SEL selector);
#ifdef __cplusplus
}
#endif
