// A queue over Linux AIO (libaio).
#pragma once

#include <memory>

#include "aio/queue.hpp"

namespace orlop::aio {

Result<std::unique_ptr<Queue>> make_libaio_queue(const QueueOptions& options);

}  // namespace orlop::aio
