#include "bench/interrupt.hpp"

#include <pthread.h>

#include <csignal>

#include <mutex>
#include <thread>
#include <vector>

namespace orlop::bench {
namespace {

std::mutex mutex;
int came = 0;
std::vector<zero3::Engine*> engines;

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

void wait_for_interrupt() {
  const sigset_t set = interrupts();
  int number = 0;
  if (::sigwait(&set, &number) != 0) return;
  {
    const std::lock_guard lock(mutex);
    came = number;
    for (zero3::Engine* const engine : engines) engine->cancel();
  }
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);  // the next one finds this thread and its default action
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

Result<> catch_interrupts() {
  const sigset_t set = interrupts();
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail(status_of_errno(error), "pthread_sigmask: on SIGINT, SIGTERM and SIGHUP: {}", describe_errno(error));
  }
  std::thread(wait_for_interrupt).detach();
  return {};
}

int interrupted_by() {
  const std::lock_guard lock(mutex);
  return came;
}

Result<> go_on_unless_interrupted() {
  if (const int number = interrupted_by(); number != 0) {
    return fail(ORLOP_CANCELLED, "interrupted by signal {}", number);
  }
  return {};
}

CancelOnInterrupt::CancelOnInterrupt(zero3::Engine& engine) : engine_(&engine) {
  const std::lock_guard lock(mutex);
  engines.push_back(engine_);
  if (came != 0) engine_->cancel();
}

CancelOnInterrupt::~CancelOnInterrupt() {
  const std::lock_guard lock(mutex);
  std::erase(engines, engine_);
}

}  // namespace orlop::bench
