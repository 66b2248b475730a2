// A queue over threads that call pread and pwrite: the definition of what a queue does.
#pragma once

#include <memory>

#include "aio/queue.hpp"

namespace orlop::aio {

Result<std::unique_ptr<Queue>> make_thread_queue(const QueueOptions& options);

}  // namespace orlop::aio
