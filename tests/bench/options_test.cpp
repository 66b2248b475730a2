#include "bench/options.hpp"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

Result<Command> parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "offload_bench");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

StepArguments step(const std::vector<const char*>& arguments) {
  const auto command = parsed(arguments);
  EXPECT_TRUE(command) << command.error().message;
  return std::get<StepArguments>(*command);
}

std::string error_of(const std::vector<const char*>& arguments) {
  const auto command = parsed(arguments);
  EXPECT_FALSE(command);
  return command ? "" : command.error().message;
}

std::string help(const std::vector<const char*>& arguments) {
  const auto command = parsed(arguments);
  EXPECT_TRUE(command) << command.error().message;
  return std::get<HelpText>(*command).text;
}

TEST(Options, StepIsMeantWhenNoSubcommandIsNamed) {
  const StepArguments o = step({"--device", "nvme", "--nvme_path", "/local_nvme"});
  EXPECT_EQ(o.device, "nvme");
  EXPECT_EQ(o.nvme_paths, std::vector<std::string>{"/local_nvme"});
  EXPECT_EQ(step({"--nvme_path", "/a", "--steps", "2", "--nvme_path", "/b"}).nvme_paths, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_THAT(error_of({"--nvme_path", "/a", "/b"}), HasSubstr("/b")) << "each has its own --nvme_path";
  EXPECT_FALSE(o.params);
  EXPECT_TRUE(std::holds_alternative<StepArguments>(*parsed({})));
}

TEST(Options, EveryOptionOfStepIsTaken) {
  const StepArguments o = step({"step", "--params", "500M", "--layers", "4", "--hidden", "1k", "--dtype", "fp32", "--ram",
                              "8G", "--queue", "aio", "--threads", "3", "--config", "c.json", "--run_id", "r", "--steps",
                              "9", "--seed", "42", "--clip", "0.5", "--device_time", "12.5", "--device_load", "busy",
                              "--compare", "checksums", "--json", "o.json", "--trace", "t.json"});
  EXPECT_EQ(o.params, 500'000'000u);
  EXPECT_EQ(o.layers, 4u);
  EXPECT_EQ(o.hidden, 1000u);
  EXPECT_EQ(o.dtype, "fp32");
  EXPECT_EQ(o.ram_bytes, 8ull << 30);
  EXPECT_EQ(o.queue, "aio");
  EXPECT_EQ(o.threads, 3u);
  EXPECT_EQ(o.config_file, "c.json");
  EXPECT_EQ(o.run_id, "r");
  EXPECT_EQ(o.steps, 9u);
  EXPECT_EQ(o.seed, 42u);
  EXPECT_EQ(o.clip, 0.5);
  EXPECT_EQ(o.device_ms, 12.5);
  EXPECT_EQ(o.device_load, DeviceLoad::busy);
  EXPECT_EQ(o.compare, Compare::checksums);
  EXPECT_EQ(o.json_file, "o.json");
  EXPECT_EQ(o.trace_file, "t.json");
}

TEST(Options, OfIoAndAdamAreTaken) {
  const auto io = std::get<IoArguments>(*parsed({"io", "--nvme_path", "/d", "--size", "2G", "--rounds", "3"}));
  EXPECT_EQ(io.size_bytes, 2ull << 30);
  EXPECT_EQ(io.rounds, 3);
  const auto adam = std::get<AdamArguments>(*parsed({"adam", "--elements", "64M", "--threads", "8"}));
  EXPECT_EQ(adam.elements, 64'000'000u);
  EXPECT_EQ(adam.threads, 8);
}

TEST(Options, OfTraceAreTaken) {
  const auto o = std::get<TraceArguments>(*parsed({"trace", "gpt.json", "--live", "1B", "--reuse", "2B", "--prefetch", "3M",
                                                   "--persistence", "4k", "--pin", "5G", "--read", "6G", "--json", "o"}));
  EXPECT_EQ(o.file, "gpt.json");
  EXPECT_EQ(o.live, 1'000'000'000u);
  EXPECT_EQ(o.reuse, 2'000'000'000u);
  EXPECT_EQ(o.prefetch, 3'000'000u);
  EXPECT_EQ(o.persistence, 4'000u);
  EXPECT_EQ(o.pin_bytes, 5ull << 30);
  EXPECT_EQ(o.read_bytes_per_s, 6'000'000'000u);
  EXPECT_EQ(o.json_file, "o");
}

TEST(Options, AWrongValueIsNamedWithItsOption) {
  EXPECT_THAT(error_of({"--params", "many"}), HasSubstr("--params: \"many\": must be a count such as 500M"));
  EXPECT_THAT(error_of({"--device", "usb"}), HasSubstr("--device: \"usb\": must be one of none, cpu, nvme"));
  EXPECT_THAT(error_of({"--queue", "fast"}), HasSubstr("must be one of uring, aio, threads"));
  EXPECT_THAT(error_of({"--steps", "0"}), HasSubstr("--steps"));
  EXPECT_THAT(error_of({"--ram", "8X"}), HasSubstr("--ram"));
  EXPECT_THAT(error_of({"io"}), HasSubstr("--nvme_path is required"));
  EXPECT_THAT(error_of({"trace"}), HasSubstr("FILE is required"));
  EXPECT_THAT(error_of({"--model", "gpt2", "--params", "1M"}), HasSubstr("excludes"));
  EXPECT_THAT(error_of({"--nvme-paht", "/d"}), HasSubstr("--nvme-paht"));
}

TEST(Options, ThatDoNotGoTogetherAreRefused) {
  EXPECT_THAT(error_of({"--model", "gtp2"}), HasSubstr("did you mean \"gpt2\"?"));
  EXPECT_THAT(error_of({"--layers", "3"}), HasSubstr("--layers: given alone; add --hidden"));
  EXPECT_THAT(error_of({"--device", "nvme"}), HasSubstr("--nvme_path"));
  EXPECT_TRUE(parsed({"--device", "nvme", "--config", "names_a_directory.json"}));
}

TEST(Options, AnUnknownSubcommandIsAnsweredWithTheKnown) {
  EXPECT_THAT(error_of({"disk"}), HasSubstr("known are step, io, adam, trace"));
}

TEST(Options, ErrorsAreOneSentenceThatSaysWhereHelpIs) {
  for (const std::string& error : {error_of({"--steps", "x"}), error_of({"--nope"}), error_of({"io", "--depth", "0"})}) {
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    EXPECT_THAT(error, HasSubstr("--help` explains the options"));
  }
}

TEST(Options, HelpShowsWhatOneCanType) {
  EXPECT_THAT(help({"--help"}), HasSubstr("offload_bench --device nvme --nvme_path /local_nvme"));
  const std::string page = help({"step", "--help"});
  for (const char* const option :
       {"--model", "--params", "--layers", "--hidden", "--dtype", "--device", "--nvme_path", "--ram", "--queue", "--threads",
        "--config", "--run_id", "--steps", "--seed", "--clip", "--device_time", "--device_load", "--compare", "--json",
        "--trace"}) {
    EXPECT_THAT(page, HasSubstr(std::string("  ") + option + " "));
  }
  EXPECT_THAT(page, HasSubstr("llama-7b"));
  EXPECT_THAT(help({"io", "--help"}), HasSubstr("--rounds"));
  EXPECT_THAT(help({"adam", "-h"}), HasSubstr("ORLOP_CPU=avx2"));
  EXPECT_THAT(help({"trace", "--help"}), HasSubstr("orlop-trace-1"));
}

TEST(Options, HelpFitsATerminal) {
  for (const std::string& page : {help({"--help"}), help({"step", "--help"}), help({"io", "--help"}),
                                  help({"adam", "--help"}), help({"trace", "--help"})}) {
    std::size_t begin = 0;
    while (begin < page.size()) {
      const std::size_t end = page.find('\n', begin);
      EXPECT_LE(end - begin, 120u) << page.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

TEST(Options, TheVersionIsTheLibrarys) { EXPECT_THAT(help({"--version"}), HasSubstr("offload_bench 0.")); }

}  // namespace
}  // namespace orlop::bench
