#include "refusal.hpp"

#include <cstddef>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace orlop::aio {
namespace {

void add_refusal(std::vector<sock_filter>& program, const Refusal& refusal) {
  const auto answer = SECCOMP_RET_ERRNO | (static_cast<unsigned>(refusal.error_number) & SECCOMP_RET_DATA);
  const unsigned char past_it = refusal.argument ? 3 : 1;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(refusal.call), 0, past_it));
  if (refusal.argument) {
    const auto low_word = static_cast<unsigned>(offsetof(seccomp_data, args) + 8 * *refusal.argument);
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low_word));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, refusal.bits, 0, 1));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, answer));
}

bool install(const std::vector<Refusal>& refusals) {
  std::vector<sock_filter> program;
  for (const auto& refusal : refusals) add_refusal(program, refusal);
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0;
}

}  // namespace

bool run_refusing(const std::vector<Refusal>& refusals, const std::function<void()>& body) {
  bool is_installed = false;
  std::thread thread([&] {
    is_installed = install(refusals);
    if (is_installed) body();
  });
  thread.join();
  return is_installed;
}

}  // namespace orlop::aio
