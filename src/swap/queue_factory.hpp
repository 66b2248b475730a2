// QueueFactory: makes a queue on the thread that will own it.
#pragma once

#include <functional>
#include <memory>

#include "aio/queue.hpp"

namespace orlop::swap {

using QueueFactory = std::function<Result<std::unique_ptr<aio::Queue>>(const aio::QueueOptions&)>;

}  // namespace orlop::swap
