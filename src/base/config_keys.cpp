#include "base/config_keys.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <fmt/format.h>
#include <iterator>
#include <unordered_map>

namespace orlop {
namespace {

using std::string_view;

// ---- A row, said shortly: type(path, default, range).status(meaning, remark) ----

struct Row : ConfigKey {
  constexpr Row(string_view key_path, KeyType key_type, string_view key_default) {
    path = key_path;
    type = key_type;
    default_json = key_default;
  }
  constexpr Row also(string_view other_spellings) const {
    Row row = *this;
    row.aliases = other_spellings;
    return row;
  }
  constexpr Row honoured(string_view text, string_view null_stands_for = {}) const {
    return as(KeyStatus::honoured, text, null_stands_for);
  }
  constexpr Row noted(string_view text, string_view why_without_effect) const {
    return as(KeyStatus::noted, text, why_without_effect);
  }
  constexpr Row refused(string_view text, string_view why_and_what_instead) const {
    return as(KeyStatus::refused, text, why_and_what_instead);
  }

 private:
  constexpr Row as(KeyStatus key_status, string_view text, string_view key_remark) const {
    Row row = *this;
    row.status = key_status;
    row.meaning = text;
    row.remark = key_remark;
    return row;
  }
};

constexpr double kMaxCount = 2147483647;  // fits every integer type of the engine

constexpr Row block(string_view path, string_view meaning) {
  return Row(path, KeyType::block, "null").honoured(meaning);
}
constexpr Row object(string_view path, string_view switch_key) {
  Row row(path, KeyType::object, "null");
  row.switch_key = switch_key;
  return row;
}
constexpr Row boolean(string_view path, string_view fallback) {
  return {path, KeyType::boolean, fallback};
}
constexpr Row text(string_view path) {
  return {path, KeyType::text, "null"};
}
constexpr Row paths(string_view path) {
  return {path, KeyType::paths, "null"};
}
constexpr Row texts(string_view path) {
  return {path, KeyType::texts, "null"};
}
constexpr Row ranged(Row row, double minimum, double maximum) {
  row.minimum = minimum;
  row.maximum = maximum;
  return row;
}
constexpr Row integer(string_view path, string_view fallback, double minimum = 0,
                      double maximum = ConfigKey::kUnbounded) {
  return ranged({path, KeyType::integer, fallback}, minimum, maximum);
}
constexpr Row number(string_view path, string_view fallback, double minimum = 0,
                     double maximum = ConfigKey::kUnbounded) {
  return ranged({path, KeyType::number, fallback}, minimum, maximum);
}
constexpr Row bytes(string_view path, double minimum, double maximum, std::uint64_t multiple_of) {
  Row row = ranged({path, KeyType::bytes, "null"}, minimum, maximum);
  row.multiple_of = multiple_of;
  return row;
}
constexpr Row choice(string_view path, string_view fallback, string_view choices, string_view synonyms = {}) {
  Row row(path, KeyType::choice, fallback);
  row.choices = choices;
  row.synonyms = synonyms;
  return row;
}
constexpr Row betas(string_view path) {
  Row row = ranged({path, KeyType::number_pair, "[0.9,0.999]"}, 0, 1);
  row.below_maximum = true;
  return row;
}

// ---- Remarks that several rows share ----

constexpr string_view kOneRank = "an engine has one rank in this version, and one rank exchanges nothing";
constexpr string_view kParamsStay =
    "one rank has every parameter whole; those in the store are fetched by the modules that use them";
constexpr string_view kOwnCheckpoint = "a checkpoint is in Orlop's own form, parallel and checked";
constexpr string_view kExactMaster = "the fp32 master costs 2 bytes per parameter here and keeps small updates";
constexpr string_view kWideMoments =
    "moments are fp32 in an engine, 2 bytes more for each than in bf16; orlop.optim alone keeps them in 16 bits";
constexpr string_view kAnyOptimizer =
    "any optimizer of torch's may be given; the names of DeepSpeed's refuse as that does";
constexpr string_view kLossless = "training here exchanges and keeps exact values; leave it out";
constexpr string_view kOwnPlan = "how gradients and parameters are grouped is planned from their sizes";
constexpr string_view kPipelined = "reading, updating and writing always overlap";
constexpr string_view kDtypeSynonyms =
    "float32=fp32|float=fp32|torch.float32=fp32|float16=fp16|half=fp16|torch.float16=fp16|bfloat16=bf16|"
    "torch.bfloat16=bf16";
constexpr string_view kDtypes = "fp32|fp16|bf16";

// ---- The table ----

constexpr std::array kTable = std::to_array<ConfigKey>({
    // Batch sizes: any two of the three give the third.
    integer("train_batch_size", "null", 1)
        .honoured("samples per update over all ranks", "from the two below"),
    integer("train_micro_batch_size_per_gpu", "null", 1, kMaxCount)
        .honoured("samples per forward pass of one rank", "from the other two"),
    integer("gradient_accumulation_steps", "null", 1, kMaxCount)
        .honoured("micro-batches per update; their gradients are summed in fp32",
                  "from the other two, else 1"),
    boolean("managed_gradient_accumulation", "true")
        .honoured("an update comes after gradient_accumulation_steps micro-batches; false: whenever the program calls "
                  "for one, gradients being summed in fp32"),

    // Gradients.
    number("gradient_clipping", "1.0").honoured("largest L2 norm over all gradients; 0 does not clip"),
    boolean("prescale_gradients", "false").noted("divide before gradients are summed over ranks", kOneRank),
    number("gradient_predivide_factor", "1.0").noted("the divisor of prescale_gradients", kOneRank),
    choice("gradient_allreduce_op", "\"mean\"", "mean|sum")
        .noted("how gradients of ranks are joined", kOneRank),
    choice("communication_data_type", "null", kDtypes, kDtypeSynonyms)
        .noted("type of exchanged gradients", kOneRank),
    choice("seq_parallel_communication_data_type", "\"fp32\"", kDtypes, kDtypeSynonyms)
        .noted("type of exchanged activations", kOneRank),
    boolean("sparse_gradients", "false")
        .refused("sparse gradients of embeddings",
                 "gradients are dense here; make the embedding with sparse=False"),
    boolean("disable_allgather", "false").noted("broadcast instead of all-gather", kOneRank),

    // What is shown.
    Row("steps_per_print", KeyType::steps, "null")
        .honoured("updates between lines that the Python package prints: loss, lr, rates, I/O, memory; 0 or Infinity: none", "none"),
    boolean("wall_clock_breakdown", "false")
        .honoured("such a line (every 10 updates unless steps_per_print says) has the times of a step's parts"),
    boolean("memory_breakdown", "false")
        .honoured("such a line (every 10 updates unless steps_per_print says) has the parts of the host's memory"),
    boolean("dump_state", "false").honoured("the Python package prints the configuration, value by value"),
    choice("log_level", "null", "debug|info|warning|error|critical", "warn=warning")
        .honoured("level of the Python package's logger, set by initialize", "the program's"),

    // What DeepSpeed asks about the program.
    boolean("zero_allow_untested_optimizer", "false")
        .noted("accept any optimizer class", kAnyOptimizer),
    boolean("zero_force_ds_cpu_optimizer", "true")
        .noted("insist on a host optimizer", kAnyOptimizer),
    boolean("dataloader_drop_last", "false")
        .honoured("the loader that initialize makes of training_data drops a last short batch"),
    integer("vocabulary_size", "null").noted("checked for divisibility by 8", "no kernel here depends on it"),
    integer("sequence_parallel_size", "1", 1)
        .refused("ranks that share a sequence", "an engine has one rank in this version; write 1"),
    boolean("graph_harvesting", "false")
        .refused("CUDA graphs", "steps are not captured in graphs; leave it out"),

    block("bf16", "The model computes in bf16; the fp32 master is kept as the parameter plus a 16-bit rest.")
        .also("bfloat16"),
    boolean("bf16.enabled", "false").honoured("parameters are bf16 with an exact fp32 master; off: fp32"),
    boolean("bf16.immediate_grad_update", "false")
        .noted("take each gradient as it is made", "each gradient is always taken as it is made"),
    boolean("bf16.check_grad_overflow", "true")
        .honoured("skip a step whose gradients are not all finite; false: orlop.non_finite is \"apply\""),
    boolean("bf16.bf16_master_weights_and_grads", "false").noted("no fp32 master", kExactMaster),
    boolean("bf16.bf16_optimizer_states", "false").noted("Adam's moments in bf16", kWideMoments),

    block("fp16", "The model computes in fp16, its losses scaled so that small gradients survive."),
    boolean("fp16.enabled", "false").honoured("parameters are fp16; the optimizer keeps an fp32 master"),
    boolean("fp16.auto_cast", "false").honoured("cast the model's floating-point inputs to fp16 (Python)"),
    number("fp16.loss_scale", "0").honoured("fixed loss scale; 0: dynamic, by the keys below"),
    integer("fp16.initial_scale_power", "16", 0, 127).honoured("the dynamic scale starts at 2 to this power"),
    integer("fp16.loss_scale_window", "1000", 0, kMaxCount).honoured("good steps in a row, after a first one, with which the scale doubles"),
    integer("fp16.hysteresis", "2", 0, kMaxCount).honoured("the overflow that halves the scale; a doubling starts anew"),
    boolean("fp16.consecutive_hysteresis", "false").honoured("every good step starts hysteresis anew"),
    number("fp16.min_loss_scale", "1").honoured("least dynamic scale; an overflow at it is an error"),
    boolean("fp16.fp16_master_weights_and_grads", "false")
        .noted("no fp32 master", "the fp32 master costs 4 bytes per parameter here and keeps small updates"),

    block("data_types", "Types besides the model's own."),
    choice("data_types.grad_accum_dtype", "null", kDtypes, kDtypeSynonyms)
        .noted("type in which micro-batches accumulate", "several micro-batches always accumulate in fp32"),
    choice("data_types.param_dtype", "null", kDtypes, kDtypeSynonyms)
        .honoured("must agree with bf16.enabled and fp16.enabled", "what they say"),
    choice("data_types.buffer_dtype", "null", kDtypes, kDtypeSynonyms)
        .honoured("the Python package converts the model's floating-point buffers to it", "buffers keep their type"),

    block("optimizer", "The optimizer, run by the engine where the states are."),
    choice("optimizer.type", "null", "Adam|AdamW|Adagrad|Lion|External")
        .honoured("AdamW: decoupled weight decay; Adam: as params.adam_w_mode says; External: the program updates the "
                  "parameters itself. In Python any other optimizer of torch's is given as `optimizer`, and run by torch on "
                  "the host",
                  "the program gives the optimizer"),
    boolean("optimizer.legacy_fusion", "false").noted("which fused kernel", "the kernel is the engine's own"),
    block("optimizer.params", "What every parameter group starts with."),
    number("optimizer.params.lr", "0.001").honoured("learning rate; of Adagrad 0.01 unless given"),
    betas("optimizer.params.betas").honoured("decay rates of the moments; of Lion [0.9, 0.99] unless given"),
    number("optimizer.params.eps", "1e-8").honoured("added to the denominator; of Adagrad 1e-10 unless given"),
    number("optimizer.params.weight_decay", "0").honoured("weight decay: decoupled for AdamW and Lion, else L2"),
    number("optimizer.params.lr_decay", "0").honoured("Adagrad: update t uses lr / (1 + (t - 1) lr_decay)"),
    number("optimizer.params.initial_accumulator_value", "0").honoured("Adagrad: what sums of squares start with"),
    boolean("optimizer.params.adam_w_mode", "true")
        .also("optimizer.params.adamw_mode")
        .honoured("type Adam: decoupled weight decay (AdamW) if true, L2 regularisation if false"),
    boolean("optimizer.params.bias_correction", "true").honoured("divide the moments by 1 - beta^t"),
    boolean("optimizer.params.torch_adam", "false")
        .noted("use torch's own class", "the engine's kernel agrees with torch.optim.AdamW to rounding"),
    boolean("optimizer.params.fused", "false")
        .noted("torch's fused kernel", "the kernel is the engine's own"),
    boolean("optimizer.params.foreach", "false")
        .noted("torch's foreach kernel", "the kernel is the engine's own"),
    boolean("optimizer.params.amsgrad", "false")
        .refused("keep the largest second moment", "AMSGrad is not in this version; write false"),
    boolean("optimizer.params.maximize", "false").refused("ascend", "write false and negate the loss"),
    boolean("optimizer.params.fp32_optimizer_states", "true").noted("moments in fp32", kWideMoments),
    number("optimizer.params.max_grad_norm", "null")
        .refused("clipping inside the optimizer",
                 "clipping covers all parameters together; write it as \"gradient_clipping\" beside "
                 "\"optimizer\""),

    block("scheduler", "The learning rate's schedule, which the Python package steps after every update that was applied."),
    text("scheduler.type")
        .honoured("WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest (orlop.lr_schedules), or a class of "
                  "torch.optim.lr_scheduler; lr_scheduler=... comes before it",
                  "no schedule"),
    object("scheduler.params", "").honoured("the schedule's parameters, by name", "the schedule's own defaults"),

    block("zero_optimization", "What is sharded over ranks and where states live. `true` means stage 1."),
    integer("zero_optimization.stage", "0", 0, 3)
        .honoured("what is sharded over ranks; on one rank all stages are the same"),
    boolean("zero_optimization.contiguous_gradients", "true")
        .noted("copy gradients into one buffer", kOwnPlan),
    boolean("zero_optimization.reduce_scatter", "true")
        .noted("reduce-scatter instead of all-reduce", kOneRank),
    integer("zero_optimization.reduce_bucket_size", "500000000").noted("elements reduced at once", kOneRank),
    boolean("zero_optimization.use_multi_rank_bucket_allreduce", "true")
        .noted("all-reduce over buckets", kOneRank),
    boolean("zero_optimization.allgather_partitions", "true")
        .noted("all-gather instead of broadcast", kOneRank),
    integer("zero_optimization.allgather_bucket_size", "500000000")
        .noted("elements gathered at once", kOneRank),
    boolean("zero_optimization.overlap_comm", "null").noted("exchange while computing", kOneRank),
    boolean("zero_optimization.compute_grad_norm", "true")
        .noted("find the norm of the gradients", "it is found in the pass that takes them"),
    boolean("zero_optimization.parameter_alignment", "false")
        .noted("parameters begin at aligned addresses", "they always do"),
    boolean("zero_optimization.round_robin_gradients", "false")
        .noted("spread gradient copies over ranks", kOneRank),
    boolean("zero_optimization.load_from_fp32_weights", "true")
        .noted("masters come from the checkpoint", "they always do; without load_optimizer_states from the parameters"),
    boolean("zero_optimization.elastic_checkpoint", "false")
        .noted("checkpoints for another number of ranks", "a checkpoint here has whole parameters, by name"),
    boolean("zero_optimization.pipeline_loading_checkpoint", "false")
        .noted("load while reading", kOwnCheckpoint),
    integer("zero_optimization.sub_group_size", "1000000000")
        .honoured("the most elements that are moved and updated at once; at least 65,536, and 2,097,152 where it says more"),
    integer("zero_optimization.stage3_prefetch_bucket_size", "50000000")
        .also("zero_optimization.prefetch_bucket_size")
        .honoured("elements of parameters read ahead of their use; one unit always may be, unless this is 0"),
    integer("zero_optimization.stage3_param_persistence_threshold", "100000")
        .also("zero_optimization.param_persistence_threshold")
        .honoured("parameters up to this many elements are never offloaded"),
    integer("zero_optimization.stage3_model_persistence_threshold", "9223372036854775807")
        .also("zero_optimization.model_persistence_threshold")
        .honoured("limit of elements that are not offloaded for being small"),
    integer("zero_optimization.stage3_max_live_parameters", "null")
        .also("zero_optimization.max_live_parameters")
        .honoured("limit of elements that live in the store and are in memory, in use or kept for their next use; what is in "
                  "use at once may be more, nothing else is kept then",
                  "what the budget of the host (of the device, for a model on a GPU) leaves; without one 1,000,000,000"),
    integer("zero_optimization.stage3_max_reuse_distance", "null")
        .also("zero_optimization.max_reuse_distance")
        .honoured("a unit is kept in memory only if fewer elements than this are used before it is again", "any distance"),
    boolean("zero_optimization.stage3_gather_16bit_weights_on_model_save", "false")
        .also("zero_optimization.stage3_gather_fp16_weights_on_model_save|"
              "zero_optimization.gather_16bit_weights_on_model_save")
        .noted("save whole weights",
               "parameters are whole on the device; module_state_dict() has them at any time"),
    integer("zero_optimization.stage3_module_granularity_threshold", "0")
        .also("zero_optimization.module_granularity_threshold")
        .noted("modules below this are fetched whole", kParamsStay),
    boolean("zero_optimization.stage3_use_all_reduce_for_fetch_params", "false")
        .also("zero_optimization.use_all_reduce_for_fetch_params")
        .noted("all-reduce instead of all-gather", kParamsStay),
    boolean("zero_optimization.stage3_allgather_sequential", "false")
        .also("zero_optimization.allgather_sequential")
        .noted("gather one parameter after the other", kParamsStay),
    boolean("zero_optimization.ignore_unused_parameters", "true")
        .noted("accept parameters without a gradient", "such a parameter's gradient always counts as zero"),
    boolean("zero_optimization.legacy_stage1", "false")
        .refused("an old stage 1", "DeepSpeed has removed it too; leave it out"),
    boolean("zero_optimization.memory_efficient_linear", "true")
        .noted("replace torch's linear layer", kParamsStay),
    boolean("zero_optimization.override_module_apply", "true")
        .noted("gather inside Module.apply", kParamsStay),
    boolean("zero_optimization.log_trace_cache_warnings", "false")
        .noted("report changes of module order", kParamsStay),
    boolean("zero_optimization.enable_sanity_checks", "false")
        .honoured("GatheredParameters refuses changes that no rank is named for (Python); other checks are always on"),
    integer("zero_optimization.zero_hpz_partition_size", "1")
        .refused("a second partition inside a node", "an engine has one rank in this version; write 1"),
    boolean("zero_optimization.zero_quantized_weights", "false")
        .refused("8-bit parameters in exchanges", kLossless),
    boolean("zero_optimization.zero_quantized_nontrainable_weights", "false")
        .refused("8-bit frozen parameters", kLossless),
    boolean("zero_optimization.zero_quantized_gradients", "false")
        .refused("8-bit gradients in exchanges", kLossless),
    object("zero_optimization.zeropp_loco_param", "")
        .refused("error feedback of quantised gradients", kLossless),
    integer("zero_optimization.mics_shard_size", "-1", -1)
        .refused("shard over so many ranks only", "an engine has one rank in this version; write -1"),
    boolean("zero_optimization.mics_hierarchical_params_gather", "false")
        .refused("gather in two levels", "an engine has one rank in this version; write false"),
    boolean("zero_optimization.save_muon_momentum_buffer_in_memory", "false")
        .refused("Muon's momentum", "Muon is not in this version; write false"),
    object("zero_optimization.zenflow", "")
        .refused("delayed updates of unimportant gradients", "an update here is never stale; leave it out"),
    block("zero_optimization.leaf_module", "Modules whose parameters, all that are within, are fetched as one (Python)."),
    texts("zero_optimization.leaf_module.classes")
        .honoured("by class, its name alone or with its module's before it", "none"),
    texts("zero_optimization.leaf_module.names").honoured("by full name in the model", "none"),
    texts("zero_optimization.leaf_module.name_suffixes").honoured("by end of that name", "none"),
    boolean("zero_optimization.cpu_offload", "false")
        .honoured("old spelling of offload_optimizer.device \"cpu\""),
    boolean("zero_optimization.cpu_offload_param", "false")
        .also("zero_optimization.cpu_offload_params")
        .honoured("old spelling of offload_param.device \"cpu\""),
    boolean("zero_optimization.cpu_offload_use_pin_memory", "null")
        .noted("old spelling of pin_memory",
               "host memory is registered with device and ring where they allow it"),

    block("zero_optimization.offload_optimizer", "Where the optimizer's states live. Any stage."),
    choice("zero_optimization.offload_optimizer.device", "\"none\"", "none|cpu|nvme")
        .honoured("cpu: host memory; nvme: a store on disk; none: beside the parameters, on a GPU in host memory"),
    paths("zero_optimization.offload_optimizer.nvme_path")
        .honoured("directory of the store, <nvme_path>/orlop/<run id>; or a list of them, one on each drive, over which it "
                  "is striped as fast as they are",
                  "none; needed with device nvme"),
    integer("zero_optimization.offload_optimizer.buffer_count", "null", 0, 1024)
        .honoured("slabs of the ring between disk and host; at least 3: one read, one updated, one written",
                  "the engine's own choice"),
    integer("zero_optimization.offload_optimizer.buffer_size", "null")
        .honoured("the most elements of a slab, as sub_group_size (old guides)", "2,097,152"),
    boolean("zero_optimization.offload_optimizer.pin_memory", "true")
        .noted("lock host memory", "host memory is registered with device and ring where they allow it"),
    boolean("zero_optimization.offload_optimizer.pipeline_read", "false").noted("read ahead", kPipelined),
    boolean("zero_optimization.offload_optimizer.pipeline_write", "false").noted("write behind", kPipelined),
    boolean("zero_optimization.offload_optimizer.fast_init", "false")
        .noted("write states in bulk at the start", "the store is always written in bulk"),
    number("zero_optimization.offload_optimizer.ratio", "1.0", 0, 1)
        .noted("part of the parameters whose update runs on the host", "all updates run on the host, where the states are"),
    boolean("zero_optimization.offload_optimizer.super_offload", "false")
        .noted("updates ahead of clipping, rolled back", "an update here begins once clipping is known, with the same result"),
    number("zero_optimization.offload_optimizer.cpuadam_cores_perc", "0.8", 0, 1)
        .noted("share of the cores for the update", "orlop.threads says it"),

    block("zero_optimization.offload_param", "Where parameters live between their uses."),
    choice("zero_optimization.offload_param.device", "\"none\"", "none|cpu|nvme")
        .honoured("none: with the model; nvme: in the store; cpu: in host memory, from where a GPU fetches them as from the "
                  "store, and where a model that computes on the CPU has them anyway"),
    paths("zero_optimization.offload_param.nvme_path")
        .honoured("directory of the store, or their list; with offload_optimizer on NVMe the same as there",
                  "that of offload_optimizer"),
    integer("zero_optimization.offload_param.buffer_count", "null", 0, 1024)
        .honoured("pieces of staging memory between disk and model; at least 2: one read, one copied from",
                  "as many as stage3_prefetch_bucket_size fills and the budget has room for"),
    integer("zero_optimization.offload_param.buffer_size", "null")
        .honoured("the most elements of a piece, as sub_group_size", "2,097,152"),
    integer("zero_optimization.offload_param.max_in_cpu", "null")
        .honoured("limit of elements that live in the store and are in host memory: of a model on the CPU, where it bounds what "
                  "stage3_max_live_parameters does",
                  "what the budget of the host leaves"),
    boolean("zero_optimization.offload_param.pin_memory", "true").noted("lock host memory", kParamsStay),

    block(
        "aio",
        "How the store is read and written. What is left out is found by a short calibration on the store."),
    bytes("aio.block_size", 4096, 1 << 30, 4096).honoured("bytes of one request", "calibrated on the store"),
    integer("aio.queue_depth", "null", 1, 4096).honoured("requests in flight", "calibrated on the store"),
    integer("aio.intra_op_parallelism", "null", 1, 1024)
        .also("aio.thread_count|aio.num_threads")
        .honoured("I/O threads, with orlop.queue \"threads\" (the other queues need none)",
                  "the queue's own choice"),
    boolean("aio.single_submit", "false").noted("submit one by one", "requests are submitted in batches"),
    boolean("aio.overlap_events", "true").noted("submit while others complete", kPipelined),
    boolean("aio.use_gds", "false")
        .refused("GPUDirect Storage",
                 "states are updated on the host, so the disk is read into host memory; write false"),

    block("activation_checkpointing", "What `orlop.checkpointing.checkpoint` does with the inputs it keeps."),
    boolean("activation_checkpointing.partition_activations", "false")
        .honoured("each rank of a model-parallel group keeps its part of them; a single rank keeps all"),
    integer("activation_checkpointing.number_checkpoints", "null")
        .honoured("checkpoints per pass, which contiguous_memory_optimization makes room for", "none"),
    boolean("activation_checkpointing.contiguous_memory_optimization", "false")
        .honoured("they are copied into one buffer, made at once for number_checkpoints"),
    boolean("activation_checkpointing.synchronize_checkpoint_boundary", "false")
        .honoured("wait for the device at the beginning and end of each checkpoint"),
    boolean("activation_checkpointing.profile", "false").honoured("log the times of each checkpoint"),
    boolean("activation_checkpointing.cpu_checkpointing", "false")
        .honoured("they are copied to host memory while the device computes; see orlop.memory.activations"),

    block("checkpoint", "Checkpoints."),
    choice("checkpoint.tag_validation", "\"Warn\"", "Warn|Ignore|Fail")
        .noted("tags must agree over ranks", kOwnCheckpoint),
    boolean("checkpoint.load_universal", "false")
        .refused("load DeepSpeed's universal format", "only Orlop's own checkpoints are loaded; write false"),
    boolean("checkpoint.use_node_local_storage", "false")
        .noted("every node keeps its own files", kOwnCheckpoint),
    boolean("checkpoint.checkpoint_serialization", "true").noted("torch's file format", kOwnCheckpoint),
    object("checkpoint.parallel_write", "pipeline_stage").noted("stages write together", kOwnCheckpoint),
    object("checkpoint.writer", "").noted("how files are written", kOwnCheckpoint),

    // Parts of DeepSpeed that are blocks of their own.
    object("amp", "enabled")
        .refused("NVIDIA Apex", "Apex is not supported; write \"bf16\": {\"enabled\": true} instead"),
    block("torch_autocast", "The model's forward pass inside torch.autocast; parameters keep their type."),
    boolean("torch_autocast.enabled", "false").honoured("the Python package enters torch.autocast around each forward pass"),
    choice("torch_autocast.dtype", "null", "fp16|bf16",
           "float16=fp16|half=fp16|torch.float16=fp16|bfloat16=bf16|torch.bfloat16=bf16")
        .honoured("what its operations compute in", "bf16"),
    texts("torch_autocast.lower_precision_safe_modules")
        .honoured("classes of modules whose gradients may be exchanged in that type", "those that torch computes in it"),
    object("msamp", "enabled")
        .refused("MS-AMP (fp8)", "fp8 is not in this version; write \"bf16\": {\"enabled\": true} instead"),
    object("elasticity", "enabled")
        .refused("changing the number of ranks", "an engine has one rank in this version; leave it out"),
    object("autotuning", "enabled")
        .refused(
            "DeepSpeed's tuner",
            "there is nothing left to tune: sizes are derived and the drive is calibrated; leave it out"),
    object("compile", "deepcompile").refused("DeepCompile", "use torch.compile in your program"),
    object("tensor_parallel", "autotp_size")
        .refused("tensor parallelism", "an engine has one rank in this version; leave it out"),
    object("expert_parallel", "enabled")
        .refused("expert parallelism", "an engine has one rank in this version; leave it out"),
    object("pipeline", "")
        .noted("pipeline parallelism", "it applies to DeepSpeed's PipelineModule, which is not here"),
    object("hybrid_engine", "enabled")
        .refused("training and generation in one engine", "it is not in this version; leave it out"),
    object("data_efficiency", "enabled")
        .refused("data sampling and token dropping", "choosing data is your program's; leave it out"),
    object("curriculum_learning", "enabled")
        .refused("sequence length that grows", "choosing data is your program's; leave it out"),
    object("progressive_layer_drop", "enabled")
        .refused("skipping layers", "the model is trained as it is; leave it out"),
    object("eigenvalue", "enabled")
        .refused("curvature for quantisation", "it is not in this version; leave it out"),
    object("compression_training", "")
        .refused("pruning and quantisation", "training here is exact; leave it out"),
    object("quantize_training", "enabled").refused("quantisation", "training here is exact; leave it out"),
    object("weight_quantization", "").refused("quantisation", "training here is exact; leave it out"),
    object("sparse_attention", "")
        .refused("sparse attention kernels", "attention is the model's; leave it out"),
    object("nebula", "enabled")
        .refused("Azure's checkpoint service",
                 "the engine writes checkpoints itself, orlop.checkpoint.background in the background; leave it out"),
    block("flops_profiler", "Counts the operations of one update's first micro-batch."),
    boolean("flops_profiler.enabled", "false").honoured("print them, module by module, after that update"),
    integer("flops_profiler.profile_step", "1", 1).honoured("which update, counted from 1"),
    integer("flops_profiler.module_depth", "-1", -1).honoured("the deepest modules shown; -1: all"),
    integer("flops_profiler.top_modules", "1", 1).honoured("modules of each depth that are summed up, the largest first"),
    boolean("flops_profiler.detailed", "true").honoured("also show every module down to module_depth"),
    text("flops_profiler.output_file").honoured("a file to write to instead", "none"),
    number("flops_profiler.recompute_fwd_factor", "0.0", 0)
        .noted("what recomputed activations add", "what is computed again is counted where it happens"),
    object("comms_logger", "enabled").noted("log collectives", kOneRank),
    object("timers", "")
        .noted("throughput timers", "every step's times are in its report (orlop_step_report) anyway"),
    object("tensorboard", "enabled")
        .honoured("loss, lr, loss scale and gradient norm of every update to TensorBoard: output_path, job_name", "off"),
    object("wandb", "enabled").honoured("the same to Weights & Biases: project, group, team", "off"),
    object("csv_monitor", "enabled").honoured("the same to CSV files: output_path, job_name", "off"),
    object("comet", "enabled").noted("a monitor", "of the monitors tensorboard, wandb and csv_monitor are known"),

    block("orlop", "Our own keys; DeepSpeed ignores the block."),
    boolean("orlop.strict_config", "false").honoured("an unknown key is an error instead of a warning"),
    choice("orlop.queue", "null", "uring|aio|threads", "io_uring=uring|libaio=aio")
        .honoured("how the store is read and written", "the best that works: uring, else aio, else threads"),
    choice("orlop.non_finite", "\"skip\"", "skip|stop|apply")
        .honoured("a NaN or infinite gradient: skip the step and count it, stop the engine, or update with it all the "
                  "same; under a dynamic loss scale the step is skipped in any case"),
    boolean("orlop.trace", "false").honoured("record events for orlop_trace_write"),
    integer("orlop.unit_elements", "2097152", 1)
        .honoured("modules that follow each other are fetched as one up to this many elements; 1: each by itself"),
    integer("orlop.threads", "0", 0, 1024)
        .honoured("worker threads of the update; 0: every processor the process may use"),
    text("orlop.profile")
        .honoured("a file for where the time of every update went, which `orlop report` reads; also DEEPSPEED_PROFILE=1",
                  "none"),
    text("orlop.run_id")
        .honoured("names the run's directory: letters, digits, '.', '_', '-'", "from host, process and time"),
    block("orlop.checkpoint", "What save_checkpoint does."),
    integer("orlop.checkpoint.keep", "null", 1)
        .honoured("how many checkpoints are kept beside each other; the oldest are removed", "all"),
    boolean("orlop.checkpoint.background", "false")
        .honoured("save_checkpoint returns when it has begun: what is in memory is copied while training goes on"),
    bytes("orlop.checkpoint.rate", 1 << 20, 0x1p62, 1)
        .honoured("bytes per second that a background save copies at most", "1 GB"),
    choice("orlop.checkpoint.on_failure", "\"stop\"", "stop|continue")
        .honoured("a checkpoint that cannot be saved: an exception, or a warning"),
    block("orlop.memory", "Hard limits on what the engine allocates, everything included."),
    bytes("orlop.memory.host", 1, 0x1p62, 1).honoured("host memory", "no limit"),
    bytes("orlop.memory.device", 1, 0x1p62, 1).honoured("device memory", "no limit"),
    bytes("orlop.memory.nvme", 1, 0x1p62, 1).honoured("the store on disk", "no limit but the disk"),
    number("orlop.memory.pinned", "null", 0, 1)
        .honoured("share of what is offloaded to NVMe that stays in host memory all the same, and is never read or written",
                  "as much as orlop.memory.host has room for; without that none"),
    bytes("orlop.memory.activations", 1, 0x1p62, 1)
        .honoured("host memory, of orlop.memory.host, that is kept free for what activation_checkpointing.cpu_checkpointing puts "
                  "there, which takes no more",
                  "what the rest leaves of orlop.memory.host; without that no limit"),
});

// ---- Finding ----

using Index = std::unordered_map<string_view, const ConfigKey*>;

const Index& index() {
  static const Index index = [] {
    Index by_path;
    for (const ConfigKey& key : kTable) {
      by_path.emplace(key.path, &key);
      for (const string_view alias : split_list(key.aliases)) by_path.emplace(alias, &key);
    }
    return by_path;
  }();
  return index;
}

struct SplitPath {
  string_view parent;
  string_view leaf;
};

SplitPath split_path(string_view path) {
  const auto dot = path.rfind('.');
  if (dot == string_view::npos) return {{}, path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

char fold(char c) {
  return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// Edits (insert, delete, replace, swap of neighbours) between two names, ignoring case and '-' against '_'.
std::size_t edit_distance(string_view a, string_view b) {
  std::vector<std::size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool equal = fold(a[i - 1]) == fold(b[j - 1]);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (equal ? 0 : 1)});
      const bool swapped =
          i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]);
      if (swapped) current[j] = std::min(current[j], before[j - 2] + 1);
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

// A name in the wrong block counts as one and a half edits: a misspelt sibling is the likelier guess.
std::size_t half_edits(const SplitPath& unknown, const SplitPath& known) {
  return 2 * edit_distance(unknown.leaf, known.leaf) + (unknown.parent == known.parent ? 0 : 3);
}

std::string describe_range(string_view what, double minimum, double maximum, bool below_maximum) {
  if (maximum == ConfigKey::kUnbounded) {
    return minimum == -ConfigKey::kUnbounded ? std::string(what)
                                             : fmt::format("{} of at least {:.0f}", what, minimum);
  }
  return fmt::format("{} from {:.0f} to {}{:.0f}", what, minimum, below_maximum ? "below " : "", maximum);
}

std::string describe_choices(string_view choices) {
  std::string text;
  for (const string_view choice : split_list(choices))
    text += fmt::format("{}\"{}\"", text.empty() ? "" : " or ", choice);
  return text;
}

std::string describe_bytes(const ConfigKey& key) {
  std::string text = "a size such as 1048576, \"64M\" or \"48G\"";
  if (key.multiple_of > 1) text += fmt::format(", a multiple of {}", key.multiple_of);
  if (key.maximum < 0x1p62) text += fmt::format(", at most {:.0f}", key.maximum);
  return text;
}

}  // namespace

std::span<const ConfigKey> config_keys() {
  return kTable;
}

const ConfigKey* find_config_key(string_view path) {
  const auto found = index().find(path);
  return found == index().end() ? nullptr : found->second;
}

std::string nearest_config_key(string_view path) {
  static constexpr std::size_t kLongestName = 64;
  const SplitPath unknown = split_path(path);
  if (unknown.leaf.size() > kLongestName) return "";
  std::size_t best = 2 + 2 * ((unknown.leaf.size() + 1) / 3);  // more edits than that are another word
  string_view nearest;
  for (const auto& [name, key] : index()) {
    const std::size_t distance = half_edits(unknown, split_path(name));
    if (distance < best || (distance == best && !nearest.empty() && name < nearest)) {
      best = distance;
      nearest = name;
    }
  }
  return std::string(nearest);
}

std::string describe_type(const ConfigKey& key) {
  switch (key.type) {
    case KeyType::block:
      return "an object";
    case KeyType::object:
      return key.switch_key.empty() ? "an object"
                                    : fmt::format("an object, switched by its \"{}\"", key.switch_key);
    case KeyType::boolean:
      return "true or false";
    case KeyType::integer:
      return describe_range("an integer", key.minimum, key.maximum, key.below_maximum);
    case KeyType::steps:
      return "an integer of at least 0, or Infinity";
    case KeyType::number:
      return describe_range("a number", key.minimum, key.maximum, key.below_maximum);
    case KeyType::number_pair:
      return describe_range("an array of two numbers", key.minimum, key.maximum, key.below_maximum);
    case KeyType::bytes:
      return describe_bytes(key);
    case KeyType::text:
      return "a string";
    case KeyType::paths:
      return "a path or a list of paths";
    case KeyType::texts:
      return "a string or an array of strings";
    case KeyType::choice:
      return describe_choices(key.choices);
  }
  return "";
}

string_view name_of(KeyStatus status) {
  switch (status) {
    case KeyStatus::honoured:
      return "honoured";
    case KeyStatus::noted:
      return "noted";
    case KeyStatus::refused:
      return "refused";
  }
  return "";
}

std::vector<string_view> split_list(string_view list, char separator) {
  std::vector<string_view> parts;
  while (!list.empty()) {
    const auto end = std::min(list.find(separator), list.size());
    parts.push_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

}  // namespace orlop
