// The thread that stands for a GPU: it runs command buffers later than they are committed.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "metal_standin/metal_objects.hpp"

namespace npu::standin {

class Gpu {
 public:
  Gpu();
  // Runs what was committed.
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  // Takes over one reference.
  void commit(CommandBuffer* commands);
  // Someone waits for a command buffer: no reason to be late any more.
  void hurry();
  // Waits until all that was committed has run.
  void drain();

 private:
  void work();
  static void run(CommandBuffer& commands);
  static Object* run_pass(const Pass& pass, std::uint64_t number);

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<CommandBuffer*> committed_;
  bool hurry_ = false;
  bool idle_ = true;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace npu::standin
