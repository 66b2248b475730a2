// A queue over io_uring (liburing).
#pragma once

#include <memory>

#include "aio/queue.hpp"

namespace orlop::aio {

Result<std::unique_ptr<Queue>> make_uring_queue(const QueueOptions& options);

}  // namespace orlop::aio
