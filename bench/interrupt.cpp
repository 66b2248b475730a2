#include "bench/interrupt.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "swap/run_directory.hpp"

namespace orlop::bench {
namespace {

// A run while this process has it; everything that removing it needs, made beforehand.
struct Run {
  swap::RunPaths paths;
  std::string owner_pid;  // as the lock file has it
};

std::mutex mutex;
int came = 0;
std::vector<zero3::Engine*> engines;
std::vector<Run> runs;
std::array<std::string, 32> last_words;  // by signal
std::atomic_flag said;

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

// Another process may have the same run id: what is not locked by us is not ours.
bool is_ours(const Run& run) {
  char text[1024] = {};
  const int fd = ::open(run.paths.lock.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t bytes = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  return bytes > 0 && std::strstr(text, run.owner_pid.c_str()) != nullptr;
}

// Takes no memory: growing the heap would wait for the very call that keeps this process from ending.
[[noreturn]] void end_now(int number) {
  for (const Run& run : runs) {
    if (!is_ours(run)) continue;
    ::unlink(run.paths.store.c_str());
    ::unlink(run.paths.lock.c_str());
    ::rmdir(run.paths.directory.c_str());
    ::rmdir(run.paths.root.c_str());
  }
  ::_exit(say_interrupted(number));
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
  std::this_thread::sleep_for(kPatience);
  const std::lock_guard lock(mutex);
  end_now(number);
}

}  // namespace

Result<> catch_interrupts() {
  const sigset_t set = interrupts();
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail(status_of_errno(error), "pthread_sigmask: on SIGINT, SIGTERM and SIGHUP: {}", describe_errno(error));
  }
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    last_words[static_cast<std::size_t>(number)] =
        fmt::format("offload_bench: interrupted by signal {}; nothing is left behind\n", number);
  }
  std::thread(wait_for_interrupt).detach();
  return {};
}

void remove_when_out_of_patience(std::span<const std::string> nvme_paths, const std::string& run_id) {
  const std::lock_guard lock(mutex);
  const std::string owner_pid = fmt::format("\"pid\":{}", ::getpid());
  for (const std::string& path : nvme_paths) runs.push_back({swap::run_paths(path, run_id, 0), owner_pid});
}

int say_interrupted(int signal) {
  if (!said.test_and_set()) {
    const std::string& line = last_words[static_cast<std::size_t>(signal)];
    const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    static_cast<void>(written);  // nobody is left to tell
  }
  return 128 + signal;
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
