// The thread that stands for a GPU: it runs command buffers later than they are committed, those of
// several threads together.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "metal_standin/metal_objects.hpp"

namespace npu::standin {

// Command buffers of one thread run in the order in which they were committed, as Metal's tracking
// of hazards has them do where they share memory: runs that are profiled rely on it. Between those
// of several threads no order holds, and their dispatches alternate: each thread waits for its own
// before it uses memory again, and nothing else may keep them apart. (Metal would keep apart those
// that share a buffer, and lose what they gain.)
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
  // A command buffer that has been committed, and how far it is.
  struct Job {
    CommandBuffer* commands;
    std::thread::id thread;
    bool begun = false;
    std::vector<const Command*> order = {};  // as they run, once begun
    std::size_t next = 0;
    Object* error = nullptr;
  };

  void work();
  // The first job of each thread.
  std::vector<Job*> ready();
  // Runs a job's next dispatch. Whether it was the last.
  static bool step(Job& job);

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Job> committed_;  // of which the GPU's thread alone removes
  bool hurry_ = false;
  bool idle_ = true;
  bool stop_ = false;
  std::mt19937_64 random_;  // of the GPU's thread
  std::thread thread_;
};

}  // namespace npu::standin
