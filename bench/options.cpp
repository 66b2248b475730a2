#include "bench/options.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/bytes.hpp"
#include "bench/model.hpp"
#include "bench/quantities.hpp"

namespace orlop::bench {
namespace {

constexpr std::array<std::string_view, 4> kSubcommands = {"step", "io", "adam", "trace"};

constexpr const char* kOverview =
    R"(Measures what this machine can do when a model's optimizer states live in memory or on NVMe, and what limits it.
Every figure stands beside its roof, measured in the same run by code that shares nothing with the engine.

A step of training with offloaded states reads every state from disk, updates it and writes it back. In bf16 that is 10
bytes read and 10 written per parameter, so a drive that does 2.5 GB/s in a half-and-half mixture needs 8 s for 10^9
parameters, whatever else happens. `step` shows how near the engine comes to that.)";

constexpr const char* kOverviewExamples =
    R"(Examples:
  offload_bench --device nvme --nvme_path /local_nvme    a size that fits this machine, under a minute
  offload_bench step --params 500M --nvme_path /data     a size of your own
  offload_bench io --nvme_path /data                     the drive alone, beside a raw loop
  offload_bench adam                                     the arithmetic alone, beside memory
  offload_bench trace gpt.json                           what planning saves, on a recorded trace

`offload_bench step --help` (and io, adam, trace) explains each. Without a subcommand, options are those of `step`.
Exit status: 0; 1 after an error, with one sentence on standard error; 2 for a wrong command line; 130 after Ctrl-C.)";

constexpr const char* kStepText =
    R"(Runs real optimizer steps: AdamW over the parameters of a model, with clipping, its states in memory or in a store on
disk. Parameters and gradients are made from --seed, so results can be compared: `digest` is the same for every device,
queue, instruction set and number of threads.

The table, line by line:
  step           from the start of an update until its last byte is written; % of roof: the time that the raw loop needs
                 for the same bytes, in percent of that
  raw loop       direct reads and writes, half and half, of the step's request sizes, between the steps: the roof
  adam           the arithmetic inside the step; its roof is a kernel with the same memory traffic and no arithmetic
  without ...    the same pipeline with its arithmetic left out, step by step in turn with the whole one)";

constexpr const char* kStepExamples =
    R"(Examples:
  offload_bench step --nvme_path /local_nvme                         a size that fits; ends within a minute
  offload_bench step --model gpt2-xl --nvme_path /local_nvme         1.56 B parameters, 15.6 GB on disk
  offload_bench step --nvme_path /fast --nvme_path /slow             two drives, each with its share of the states
  offload_bench step --params 500M --device cpu                      states in memory
  offload_bench step --params 1e9 --ram 6G --nvme_path /data         under a hard budget of host memory
  offload_bench step --params 1e9 --nvme_path /data --device_time 2000 --device_load busy
                                                                     behind 2 s of compute that keeps all cores busy
  offload_bench step --config ds_config.json --model llama-1b        from a DeepSpeed configuration
  offload_bench step --params 500M --nvme_path /data --json out.json --trace trace.json
                                                                     for programs, and for chrome://tracing)";

constexpr const char* kIoText =
    R"(Reads, writes, and a half-and-half mixture, through the engine's queue and through a raw loop in turn, on a file of
its own in the directory. Use at least 1 GiB; more if the drive has a large cache.)";

constexpr const char* kIoExamples =
    R"(Examples:
  offload_bench io --nvme_path /local_nvme
  offload_bench io --nvme_path /local_nvme --size 8G --rounds 9 --queue aio)";

constexpr const char* kAdamText =
    R"(The update's kernels on one thread and on all, beside a kernel that moves the same bytes of the same arrays and does no
arithmetic. Cases with "sums" compute checksums on the way, as states on NVMe need.)";

constexpr const char* kAdamExamples =
    R"(Examples:
  offload_bench adam
  offload_bench adam --dtype fp32 --elements 64M --threads 8
  ORLOP_CPU=avx2 offload_bench adam                      another instruction set: scalar, avx2 or avx512)";

constexpr const char* kTraceText =
    R"(Runs recorded steps of a model on a virtual clock, with parameters on a drive that reads at a fixed rate and memory for
some of them, and compares the engine's plan with a cache that evicts what was used the longest ago and with DeepSpeed's
rule (prefetch bucket, max_live_parameters, max_reuse_distance). Nothing is measured but the time that planning takes.

FILE is JSON:
  {"format": "orlop-trace-1", "model": NAME,
   "units": [[MODULE, ELEMENTS], ...],             in the order of registration
   "steps": [[[UNIT, KIND, SECONDS], ...], ...]}   uses in order; UNIT counts from 0; KIND is "f" (forward), "r"
                                                   (recompute) or "b" (backward); SECONDS of compute until the next use

The table, column by column: bytes read and time waited in a step once steps repeat (the mean of two more rounds of the
file's steps), the step's time, its compute in percent of that, the most elements live at a time; bytes and waiting of
the first step, which has no trace yet. DeepSpeed's rule may exceed the limit of live elements, the others never do.)";

constexpr const char* kTraceExamples =
    R"(Examples:
  offload_bench trace gpt.json                           memory for a quarter of the model
  offload_bench trace gpt.json --live 500M --read 7G     memory and drive of your own
  offload_bench trace moe.json --pin 100M --json out.json)";

// A value in a type of its own notation ("500M", "48G"): parsed at once, so that a wrong one is an error of its option.
template <typename Parse, typename Target>
CLI::Option* add_quantity(CLI::App& app, const std::string& name, Target& target, const Parse& parse,
                          const std::string& text) {
  return app.add_option_function<std::string>(
      name,
      [&target, parse, name](const std::string& given) {
        auto value = parse(given);
        if (!value) throw CLI::ValidationError(name, value.error().message);
        target = *value;
      },
      text);
}

// Without CLI11's description, which would lengthen the help page.
template <typename T>
CLI::Validator in_range(T low, T high) {
  return CLI::Range(low, high).description("");
}

// A parser of the given words.
template <typename T>
auto one_of(std::vector<std::pair<std::string, T>> words) {
  return [words = std::move(words)](const std::string& given) -> Result<T> {
    std::string known;
    for (const auto& [word, value] : words) {
      if (word == given) return value;
      known += known.empty() ? word : ", " + word;
    }
    return fail(ORLOP_INVALID_ARGUMENT, "\"{}\": must be one of {}", given, known);
  };
}

auto one_of_words(std::initializer_list<const char*> words) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const char* const word : words) pairs.emplace_back(word, word);
  return one_of(std::move(pairs));
}

auto a_queue() { return one_of_words({"uring", "aio", "threads"}); }
auto a_dtype() { return one_of_words({"bf16", "fp32"}); }

void add_output_options(CLI::App& app, std::string& json_file) {
  app.add_option("--json", json_file, "Also write every number as JSON")->type_name("FILE")->group("Output");
}

// "a, b, c" in lines that fit the help page.
std::string wrapped(const std::vector<std::string_view>& words) {
  constexpr std::size_t kWidth = 80;
  std::string text;
  std::size_t line = 0;
  for (const auto word : words) {
    if (line + word.size() > kWidth) {
      text += '\n';
      line = 0;
    }
    text += word;
    text += word == words.back() ? "" : ", ";
    line += word.size() + 2;
  }
  return text;
}

std::string model_text() { return "Shapes of a published model:\n" + wrapped(known_models()); }

void add_model_options(CLI::App& app, StepArguments& o) {
  constexpr const char* kGroup = "Model";
  auto* const model = app.add_option("--model", o.model, model_text())->type_name("NAME")->group(kGroup);
  add_quantity(app, "--params", o.params, parse_count, "Transformer layers with so many parameters: 500M, 1e9, 7B")
      ->type_name("N")->group(kGroup)->excludes(model);
  add_quantity(app, "--layers", o.layers, parse_count, "Number of layers")
      ->type_name("N")->group(kGroup)->excludes(model);
  add_quantity(app, "--hidden", o.hidden, parse_count, "Width of a layer")
      ->type_name("N")->group(kGroup)->excludes(model);
  add_quantity(app, "--dtype", o.dtype, a_dtype(), "Type of parameters and gradients: bf16 (default) or fp32")
      ->type_name("TYPE")->group(kGroup);
}

void add_placement_options(CLI::App& app, StepArguments& o) {
  constexpr const char* kGroup = "Where states and parameters live";
  add_quantity(app, "--device", o.device, one_of_words({"none", "cpu", "nvme"}),
               "Of states. none or cpu: in memory; nvme: on disk (default with --nvme_path)")
      ->type_name("DEVICE")->group(kGroup);
  add_quantity(app, "--param_device", o.param_device, one_of_words({"none", "cpu", "nvme"}),
               "Of parameters. none (default) or cpu: in memory; nvme: on disk, fetched by\n"
               "forward and by backward")
      ->type_name("DEVICE")->group(kGroup);
  app.add_option("--nvme_path", o.nvme_paths,
                 "Directory of the store, on the drive to measure; given several\n"
                 "times, the store is striped over the drives as fast as they are")
      ->type_name("DIR")->allow_extra_args(false)->group(kGroup);
  add_quantity(app, "--ram", o.ram_bytes, parse_bytes,
               "Hard limit on the engine's host memory: 8G; what it has room for is not\n"
               "on disk")
      ->type_name("BYTES")->group(kGroup);
  app.add_option("--pinned", o.pinned, "Share of what would be on disk that is in memory all the same")
      ->type_name("SHARE")->check(in_range(0.0, 1.0))->group(kGroup);
  add_quantity(app, "--queue", o.queue, a_queue(), "uring, aio or threads (default: the best that works)")
      ->type_name("QUEUE")->group(kGroup);
  app.add_option("--threads", o.threads, "Threads of the update (default: every processor)")
      ->type_name("N")->check(in_range(1u, 1024u))->group(kGroup);
  app.add_option("--config", o.config_file, "DeepSpeed configuration; the options here override it")
      ->type_name("FILE")->group(kGroup);
  app.add_option("--run_id", o.run_id, "Names the run's directory, DIR/orlop/ID")->type_name("ID")->group(kGroup);
}

void add_run_options(CLI::App& app, StepArguments& o) {
  constexpr const char* kGroup = "Run";
  app.add_option("--steps", o.steps, "Steps that count (default 5); one more goes first to warm up")
      ->type_name("N")->check(in_range(1u, 1'000'000u))->group(kGroup);
  app.add_option("--seed", o.seed, "Of parameters and gradients (default 1)")->type_name("N")->group(kGroup);
  app.add_option("--clip", o.clip, "Largest L2 norm of all gradients; 0 does not clip (default 1)")
      ->type_name("NORM")->check(in_range(0.0, 1e30))->group(kGroup);
  app.add_option("--device_time", o.device_ms, "Milliseconds per step that stand in for forward and backward")
      ->type_name("MS")->check(in_range(0.0, 3.6e6))->group(kGroup);
  add_quantity(app, "--device_load", o.device_load,
               one_of<DeviceLoad>({{"sleep", DeviceLoad::sleep}, {"busy", DeviceLoad::busy}}),
               "What goes on meanwhile: sleep, or all cores busy (default sleep)")
      ->type_name("LOAD")->group(kGroup);
  add_quantity(app, "--compare", o.compare,
               one_of<Compare>({{"none", Compare::none},
                                {"arithmetic", Compare::arithmetic},
                                {"checksums", Compare::checksums}}),
               "Run the same pipeline without its arithmetic, or without checksums,\n"
               "step by step in turn (default: arithmetic, where there is room)")
      ->type_name("WHAT")->group(kGroup);
}

void add_step(CLI::App& app, StepArguments& o) {
  CLI::App& step = *app.add_subcommand("step", "");
  add_model_options(step, o);
  add_placement_options(step, o);
  add_run_options(step, o);
  add_output_options(step, o.json_file);
  step.add_option("--trace", o.trace_file, "Also write what happened when, for chrome://tracing or Perfetto")
      ->type_name("FILE")->group("Output");
}

void add_io(CLI::App& app, IoArguments& o) {
  CLI::App& io = *app.add_subcommand("io", "");
  io.add_option("--nvme_path", o.nvme_path, "Directory on the drive to measure")->type_name("DIR")->required();
  add_quantity(io, "--size", o.size_bytes, parse_bytes, "Size of the file (default 1G)")->type_name("BYTES");
  add_quantity(io, "--queue", o.queue, a_queue(), "uring, aio or threads (default: the best that works)")
      ->type_name("QUEUE");
  add_quantity(io, "--request", o.request_bytes, parse_bytes, "Bytes of one request (default: calibrated)")
      ->type_name("BYTES");
  io.add_option("--depth", o.depth, "Requests in flight (default: calibrated)")
      ->type_name("N")->check(in_range(1u, 4096u));
  io.add_option("--rounds", o.rounds, "Rounds of every case (default 5)")->type_name("N")->check(in_range(1, 1000));
  add_output_options(io, o.json_file);
}

void add_adam(CLI::App& app, AdamArguments& o) {
  CLI::App& adam = *app.add_subcommand("adam", "");
  add_quantity(adam, "--dtype", o.dtype, a_dtype(), "bf16 (split master) or fp32 (default: both)")->type_name("TYPE");
  add_quantity(adam, "--elements", o.elements, parse_count, "Parameters (default: 1.25 GiB of arrays)")->type_name("N");
  adam.add_option("--threads", o.threads, "Threads of the cases beside one (default: every processor)")
      ->type_name("N")->check(in_range(1, 1024));
  adam.add_option("--rounds", o.rounds, "Rounds of every case (default 15)")->type_name("N")->check(in_range(1, 1000));
  add_output_options(adam, o.json_file);
}

void add_trace(CLI::App& app, TraceArguments& o) {
  CLI::App& trace = *app.add_subcommand("trace", "");
  trace.add_option("FILE", o.file, "The recorded trace")->required()->type_name("");
  add_quantity(trace, "--live", o.live, parse_count, "Elements live at a time (default: a quarter of the model)")
      ->type_name("N");
  add_quantity(trace, "--reuse", o.reuse, parse_count,
               "Release what is not used again before so many elements\n"
               "(default: no limit; for DeepSpeed's rule as --live)")
      ->type_name("N");
  add_quantity(trace, "--prefetch", o.prefetch, parse_count,
               "Elements read ahead (default: no limit; for DeepSpeed's rule 50M)")
      ->type_name("N");
  add_quantity(trace, "--persistence", o.persistence, parse_count, "Units up to this size stay live (default: none)")
      ->type_name("N");
  add_quantity(trace, "--pin", o.pin_bytes, parse_bytes, "More memory, for units that the plan pins (default: none)")
      ->type_name("BYTES");
  add_quantity(trace, "--read", o.read_bytes_per_s, parse_count, "Bytes that the drive reads in a second (default 5G)")
      ->type_name("N");
  add_output_options(trace, o.json_file);
}

// One option: its name and value, then what it does from a fixed column on.
std::string option_lines(const CLI::Option& option) {
  constexpr std::size_t kColumn = 22;
  std::string lines = fmt::format("  {:<{}}", fmt::format("{} {}", option.get_name(), option.get_type_name()), kColumn - 2);
  for (const char c : option.get_description()) {
    lines += c;
    if (c == '\n') lines.append(kColumn, ' ');
  }
  return lines + '\n';
}

// A page of one's own instead of CLI11's, whose layout differs between versions.
std::string help_page(const CLI::App& app, const char* text, const char* examples) {
  std::string page = fmt::format("usage: offload_bench {} [OPTION...]\n\n{}\n", app.get_name(), text);
  for (const std::string& group : app.get_groups()) {
    std::string lines;
    for (const CLI::Option* const option : app.get_options()) {
      if (option->get_group() == group && option->get_name() != "--help") lines += option_lines(*option);
    }
    if (!lines.empty()) page += fmt::format("\n{}:\n{}", group, lines);
  }
  return fmt::format("{}\n{}\n", page, examples);
}

std::string overview_page() {
  return fmt::format("usage: offload_bench [step | io | adam | trace] [OPTION...]\n\n{}\n\n{}\n", kOverview, kOverviewExamples);
}

std::string help_for(const CLI::App& app, const std::string& subcommand) {
  if (subcommand == "step") return help_page(*app.get_subcommand(subcommand), kStepText, kStepExamples);
  if (subcommand == "io") return help_page(*app.get_subcommand(subcommand), kIoText, kIoExamples);
  if (subcommand == "adam") return help_page(*app.get_subcommand(subcommand), kAdamText, kAdamExamples);
  if (subcommand == "trace") return help_page(*app.get_subcommand(subcommand), kTraceText, kTraceExamples);
  return overview_page();
}

// Without a subcommand the arguments are those of `step`.
std::vector<std::string> with_subcommand(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool asks_for_help =
      !arguments.empty() && (arguments[0] == "-h" || arguments[0] == "--help" || arguments[0] == "--version");
  const bool names_one = !arguments.empty() && !arguments[0].starts_with('-');
  if (!asks_for_help && !names_one) arguments.insert(arguments.begin(), "step");
  return arguments;
}

tl::unexpected<Error> usage_error(const std::string& what, std::string_view subcommand) {
  return fail(ORLOP_INVALID_ARGUMENT, "{}; `offload_bench{}{} --help` explains the options", what,
              subcommand.empty() ? "" : " ", subcommand);
}

bool is_subcommand(std::string_view name) { return std::ranges::find(kSubcommands, name) != kSubcommands.end(); }

std::string version_text() {
  return fmt::format("offload_bench {}.{}.{}\n", ORLOP_VERSION_MAJOR, ORLOP_VERSION_MINOR, ORLOP_VERSION_PATCH);
}

// What single options cannot know.
Result<> check_together(const StepArguments& o) {
  if (o.model) TRY(model_by_name(*o.model, zero3::Dtype::bf16));
  if (!o.params && o.layers.has_value() != o.hidden.has_value()) {
    return fail(ORLOP_INVALID_ARGUMENT, "--{}: given alone; add --{}, or --params", o.layers ? "layers" : "hidden",
                o.layers ? "hidden" : "layers");
  }
  if (!o.nvme_paths.empty() || o.config_file) return {};
  for (const auto& [option, device] : {std::pair("--device", o.device), std::pair("--param_device", o.param_device)}) {
    if (device != "nvme") continue;
    return fail(ORLOP_INVALID_ARGUMENT, "{} nvme: no directory is given; name one on the drive with --nvme_path", option);
  }
  return {};
}

// CLI11's own messages end in full stops and newlines now and then; ours is one sentence.
std::string one_sentence(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  while (!text.empty() && (text.back() == ' ' || text.back() == '.')) text.pop_back();
  return text;
}

}  // namespace

Result<Command> parse_command_line(int argc, const char* const* argv) {
  StepArguments step;
  IoArguments io;
  AdamArguments adam;
  TraceArguments trace;
  CLI::App app;
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  add_step(app, step);
  add_io(app, io);
  add_adam(app, adam);
  add_trace(app, trace);

  std::vector<std::string> arguments = with_subcommand(argc, argv);
  if (!arguments[0].starts_with('-') && !is_subcommand(arguments[0])) {
    return usage_error(fmt::format("\"{}\": is no subcommand; known are {}", arguments[0], fmt::join(kSubcommands, ", ")),
                       "");
  }
  const std::string subcommand = arguments[0];
  std::ranges::reverse(arguments);  // as CLI11 takes a vector
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    return HelpText{help_for(app, subcommand)};
  } catch (const CLI::CallForVersion&) {
    return HelpText{version_text()};
  } catch (const CLI::ParseError& error) {
    return usage_error(one_sentence(error.what()), subcommand);
  }
  if (subcommand == "io") return io;
  if (subcommand == "adam") return adam;
  if (subcommand == "trace") return trace;
  if (const auto sound = check_together(step); !sound) return usage_error(sound.error().message, subcommand);
  return step;
}

}  // namespace orlop::bench
