// offload_bench: what a machine can do with offloaded optimizer states, and what limits it.
#include <cstdio>
#include <string>
#include <variant>

#include "bench/adam_run.hpp"
#include "bench/interrupt.hpp"
#include "bench/io_run.hpp"
#include "bench/options.hpp"
#include "bench/step_run.hpp"
#include "bench/trace_run.hpp"
#include "bench/warnings.hpp"

namespace orlop::bench {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

int say_error(const Error& error, int status) {
  fmt::print(stderr, "offload_bench: {}\n", error.message);
  return status;
}

Result<> run(const Command& command) {
  TRY(collect_warnings());
  if (const auto* const io = std::get_if<IoArguments>(&command)) return run_io(*io);
  if (const auto* const adam = std::get_if<AdamArguments>(&command)) return run_adam(*adam);
  if (const auto* const trace = std::get_if<TraceArguments>(&command)) return run_trace(*trace);
  return run_step(std::get<StepArguments>(command));
}

int run_program(int argc, const char* const* argv) {
  const auto command = parse_command_line(argc, argv);
  if (!command) return say_error(command.error(), kWrongUsage);
  if (const auto* const help = std::get_if<HelpText>(&*command)) {
    std::fputs(help->text.c_str(), stdout);
    return 0;
  }
  const Result<> result = run(*command);
  if (const int signal = interrupted_by(); signal != 0) return say_interrupted(signal);
  if (!result) return say_error(result.error(), kFailed);
  print_warnings();
  return 0;
}

}  // namespace
}  // namespace orlop::bench

int main(int argc, char** argv) {
  try {
    return orlop::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "offload_bench: %s\n", error.what());
    return orlop::bench::kFailed;
  }
}
