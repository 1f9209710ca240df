// What metal-cpp asks of Apple's header of this name, for a build on Linux.
#pragma once
typedef double CGFloat;
struct CGSize {
  CGFloat width;
  CGFloat height;
};
