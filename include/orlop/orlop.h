/* Orlop: a tiered-memory offload engine for training models that do not fit. The C interface and its manual.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An engine keeps a model's parameters, gradients and optimizer states on the device, in host memory and in a
 * store on NVMe, and runs the optimizer on the host where the states are. One rank has one engine. A step is:
 *
 *     orlop_engine_open -> orlop_param_register (each parameter) -> orlop_engine_commit
 *     then, for every micro-batch:  forward; backward, giving each gradient to orlop_grad_ready; orlop_backward_end
 *     and after gradient_accumulation_steps of them:  orlop_step
 *     at the end: orlop_engine_close
 *
 * Errors. Every call that can fail returns an orlop_status: 0, or a negative value. orlop_last_error() then has
 * this thread's sentence, `what: on what (numbers): why`, often with what to do instead. The library never prints,
 * aborts, exits, installs a signal handler or throws. An engine whose step failed, or that has reported
 * ORLOP_IO_ERROR, ORLOP_CORRUPT, ORLOP_NO_SPACE, ORLOP_DEVICE_ERROR or ORLOP_CANCELLED, has stopped: parameters and
 * states may be those of two steps, so it repeats that error to every call that reads, writes or trains; group, ticket,
 * stats, describe and close calls still answer.
 *
 * Structs that the caller fills begin with `uint32_t struct_size`, which the caller sets to sizeof the struct; all
 * other fields zero is always valid and means the default, unless a field says otherwise. Fields are only ever
 * appended. A longer struct than this library knows is accepted if its unknown tail is zero. Structs that the
 * library fills are filled up to the caller's struct_size.
 *
 * Handles are opaque. _close takes the address of a handle and sets it to NULL; closing NULL does nothing.
 *
 * Ownership. Strings and arrays passed in are copied before the call returns unless a call says otherwise. Memory
 * whose address the library returns belongs to the engine and is valid until orlop_engine_close.
 *
 * Threads. Calls on one engine may come from any thread; the engine serialises them. orlop_engine_cancel may be
 * called at any time, also from a signal handler. Different engines are independent. A call in a child made by
 * fork() returns ORLOP_FORKED: the engine stays with the parent.
 *
 * Strings are UTF-8. Sizes are in bytes, counts in elements, times in seconds unless a name says otherwise.
 */
#ifndef ORLOP_ORLOP_H
#define ORLOP_ORLOP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ORLOP_API __attribute__((visibility("default")))
#else
#define ORLOP_API
#endif

/* ---- Version ------------------------------------------------------------------------------------------------ */

#define ORLOP_VERSION_MAJOR 0
#define ORLOP_VERSION_MINOR 1
#define ORLOP_VERSION_PATCH 0

/* The version of the loaded library as major << 16 | minor << 8 | patch. Thread-safe. */
ORLOP_API uint32_t orlop_version(void);

/* What the loaded library was built with and what this machine offers, as a JSON object with at least: version,
 * compiler, queues (array of "uring", "aio", "threads"), isa (the kernels in use: "scalar", "avx2" or "avx512"),
 * cuda (bool: built with CUDA), cuda_devices (number of usable ones). Static memory; never NULL. Thread-safe. */
ORLOP_API const char *orlop_build_info(void);

/* ---- Status ------------------------------------------------------------------------------------------------- */

typedef int32_t orlop_status;

enum {
  ORLOP_OK = 0,
  ORLOP_INVALID_ARGUMENT = -1, /* a call's argument is wrong */
  ORLOP_INVALID_CONFIG = -2,   /* a configuration key is unknown, of the wrong type, or contradicts another */
  ORLOP_OUT_OF_ORDER = -3,     /* a call came before or after its time */
  ORLOP_NOT_FOUND = -4,        /* a path, parameter or device does not exist */
  ORLOP_NO_PERMISSION = -5,    /* the operating system refused access */
  ORLOP_NO_SPACE = -6,         /* the disk is full or too small; says by how much */
  ORLOP_NO_MEMORY = -7,        /* the host or device budget is too small; says by how much */
  ORLOP_IO_ERROR = -8,         /* a transfer failed */
  ORLOP_CORRUPT = -9,          /* what was read is not what was written */
  ORLOP_BUSY = -10,            /* another process uses the run */
  ORLOP_UNSUPPORTED = -11,     /* this build or machine cannot do it */
  ORLOP_TIMEOUT = -12,         /* not finished in the time given; call again */
  ORLOP_CANCELLED = -13,       /* orlop_engine_cancel was called */
  ORLOP_FORKED = -14,          /* the engine belongs to the parent process */
  ORLOP_DEVICE_ERROR = -15,    /* the accelerator's runtime reported an error */
  ORLOP_INTERNAL = -16         /* a bug of ours; please report the sentence */
};

/* The sentence that belongs to the last call of this thread that failed; "" if none has. Valid until this thread's
 * next call. */
ORLOP_API const char *orlop_last_error(void);

/* "ORLOP_NO_SPACE" for -6 and so on; "ORLOP_UNKNOWN" for a number that is none. Static memory. Thread-safe. */
ORLOP_API const char *orlop_status_name(orlop_status status);

/* ---- Logging ------------------------------------------------------------------------------------------------ */

typedef enum orlop_log_level {
  ORLOP_LOG_DEBUG = 0,
  ORLOP_LOG_INFO = 1,
  ORLOP_LOG_WARNING = 2,
  ORLOP_LOG_ERROR = 3,
  ORLOP_LOG_OFF = 4
} orlop_log_level;

/* Receives one line without a newline. May be called from any thread of the library, one call at a time; must not
 * call the library. */
typedef void (*orlop_log_callback)(void *user, int32_t level, const char *line);

/* Sends lines of `level` and above to `callback`, for the whole process; NULL silences (the start state). Blocks
 * until a running callback has returned. Thread-safe. */
ORLOP_API orlop_status orlop_log_set(orlop_log_callback callback, void *user, int32_t level);

/* ---- Configuration ------------------------------------------------------------------------------------------ */

/* Parses and checks a DeepSpeed JSON configuration (comments and trailing commas allowed; our own keys live under
 * "orlop") and writes, as a JSON object into `buffer`:
 *   "values":   the configuration with every default, alias and derived value filled in,
 *   "entries":  [{"key": "zero_optimization.stage", "value": 3, "origin": "file"|"default"|"derived", "why": "..."}],
 *   "notes":    sentences about keys that are harmless here, and old spellings,
 *   "warnings": sentences about names that are unknown and ignored.
 * `world_size` checks the batch sizes; 0 means 1. With buffer NULL or capacity too small (ORLOP_INVALID_ARGUMENT is
 * returned in the latter case) *needed_bytes still receives the length with its terminating NUL. Thread-safe.
 * Errors: ORLOP_INVALID_CONFIG with the path of the key. */
ORLOP_API orlop_status orlop_config_resolve(const char *config_json, int32_t world_size, char *buffer,
                                            size_t capacity_bytes, size_t *needed_bytes);

/* ---- Engine ------------------------------------------------------------------------------------------------- */

typedef struct orlop_engine orlop_engine;

typedef enum orlop_device_kind {
  ORLOP_DEVICE_HOST = 0, /* parameters live in host memory, where the CPU computes */
  ORLOP_DEVICE_CUDA = 1
} orlop_device_kind;

typedef struct orlop_engine_params {
  uint32_t struct_size;
  int32_t rank;            /* 0 .. world_size - 1 */
  int32_t world_size;      /* 0 means 1; more than 1 is ORLOP_UNSUPPORTED in this version */
  int32_t device_kind;     /* an orlop_device_kind */
  int32_t device_index;    /* which CUDA device */
  uint32_t reserved;       /* zero */
  const char *config_json; /* as for orlop_config_resolve; NULL means "{}" */
  const char *run_id;      /* names the run's directory <nvme_path>/orlop/<run_id> (on each drive): letters, digits, '.',
                              '_', '-'. NULL derives one from host name, process and time. */
  const char *optimizer_json; /* takes the place of the configuration's "optimizer" block, for programs that are handed an
                                 optimizer otherwise; NULL: what the configuration says */
} orlop_engine_params;

/* Opens an engine: checks the configuration and finds the machine's cores, memory and device. Creates no file.
 * Errors: ORLOP_INVALID_ARGUMENT, ORLOP_INVALID_CONFIG, ORLOP_UNSUPPORTED, ORLOP_DEVICE_ERROR. */
ORLOP_API orlop_status orlop_engine_open(const orlop_engine_params *params, orlop_engine **engine);

/* Waits for I/O in flight (at most as long as the drive needs for it), removes the run's store unless a checkpoint
 * keeps it, and frees everything. A step under way is cancelled first. Sets *engine to NULL also when it reports an
 * error (of a write that failed, say). In a forked child it only frees the handle. */
ORLOP_API orlop_status orlop_engine_close(orlop_engine **engine);

/* Makes the commit, step or digest under way, and every later one, stop with ORLOP_CANCELLED within a block's time
 * (a commit once the drive has been measured). A step that was cancelled may be half done. Returns at once.
 * Safe at any time from any thread and from signal handlers. */
ORLOP_API void orlop_engine_cancel(orlop_engine *engine);

/* ---- Parameters --------------------------------------------------------------------------------------------- */

typedef enum orlop_dtype { ORLOP_F32 = 0, ORLOP_BF16 = 1, ORLOP_F16 = 2 } orlop_dtype;

typedef enum orlop_plane {
  ORLOP_PLANE_PARAM = 0,      /* the parameter as the model computes with it */
  ORLOP_PLANE_MASTER = 1,     /* its fp32 value: equal to PARAM for fp32, joined from param + lo for bf16 */
  ORLOP_PLANE_EXP_AVG = 2,    /* Adam's first moment m, Lion's moment; fp32 */
  ORLOP_PLANE_EXP_AVG_SQ = 3, /* Adam's second moment v, Adagrad's sum of squares; fp32 */
  ORLOP_PLANE_GRAD = 4        /* the accumulated gradient, times the loss scale; valid from grad_ready until step */
} orlop_plane;

enum {
  ORLOP_PARAM_FROZEN = 1u, /* no gradient, no optimizer state */
  ORLOP_PARAM_HELD = 2u    /* in use while other modules are, as one of a module that others are within: memory is planned
                              for all of these at once, beside the largest unit without */
};

typedef struct orlop_param_desc {
  uint32_t struct_size;
  int32_t dtype;    /* an orlop_dtype: how the model computes with it. bf16 and f16 get an fp32 master. */
  const char *name; /* unique, not empty; used in messages */
  uint64_t numel;   /* elements, at least 1 */
  int32_t group;    /* optimizer group, 0 .. 1023 */
  int32_t module;   /* parameters with the same number that follow each other are needed together and are never
                       parted; small modules that follow each other may share a unit */
  uint32_t flags;   /* ORLOP_PARAM_* */
  uint32_t reserved;
} orlop_param_desc;

/* Adds a parameter before orlop_engine_commit; ids count from 0 in order of registration, which is the order of
 * use assumed until a step has been seen. Errors: ORLOP_INVALID_ARGUMENT (a name twice, numel 0, unknown dtype),
 * ORLOP_OUT_OF_ORDER. */
ORLOP_API orlop_status orlop_param_register(orlop_engine *engine, const orlop_param_desc *desc, uint32_t *id);

/* Lays parameters out in units, checks every budget with the allocator's own arithmetic, and only then allocates
 * memory and creates the store. Parameters and states start as zero. Blocks while the store is written once.
 * Errors: ORLOP_NO_MEMORY, ORLOP_NO_SPACE (exact shortfall; nothing has been created), ORLOP_NOT_FOUND,
 * ORLOP_NO_PERMISSION, ORLOP_BUSY, ORLOP_IO_ERROR, ORLOP_CANCELLED. */
ORLOP_API orlop_status orlop_engine_commit(orlop_engine *engine);

/* What commit would take of every tier, as a JSON object: host_bytes, model_bytes, states_host_bytes, staging_bytes,
 * nvme_bytes, device_bytes, live_bytes (of host_bytes or device_bytes: parameters of the store in memory, in use or kept),
 * activation_bytes (of host_bytes), slabs, blocks. By the allocator's own arithmetic, to the byte; allocates and creates nothing,
 * and does not look at what the disk has free. Errors: ORLOP_NO_MEMORY and ORLOP_NO_SPACE where a budget is too small,
 * with the shortfall; ORLOP_OUT_OF_ORDER after commit. Buffer rules as for orlop_config_resolve. */
ORLOP_API orlop_status orlop_engine_plan(orlop_engine *engine, char *buffer, size_t capacity_bytes,
                                         size_t *needed_bytes);

/* The address of a parameter's PARAM plane on the device: numel elements of its dtype, contiguous, at least 64-byte
 * aligned, owned by the engine, fixed until close. The embedding runtime computes with this memory; the engine
 * writes it only between orlop_step_begin and the end of orlop_step_wait. ORLOP_OUT_OF_ORDER for one that lives in the store:
 * see orlop_unit_unshard. */
ORLOP_API orlop_status orlop_param_address(orlop_engine *engine, uint32_t id, void **address);

/* Names a move that is under way; nothing to free. 0 is a move that has completed. */
typedef uint64_t orlop_ticket;

/* ---- Units -------------------------------------------------------------------------------------------------- */

/* Parameters that are needed together are laid out one behind the other in a unit: those of a module, or of small modules
 * that follow each other. With "offload_param" on NVMe units live in the store between their uses. A use of one is
 *
 *     orlop_unit_room     which other units the program is to free the memory of, if the unit is not in memory
 *     orlop_unit_unshard  fills memory of the program's, which may compute with it now
 *     orlop_unit_reshard  the use is over; says whether the unit stays in that memory, for its next use, or is to be freed
 *
 * and a unit that stays costs nothing to unshard again in the same memory. What stays is planned from the order of uses in the pass
 * before (a pass is what lies between two calls of orlop_backward_end; the first one is expected in the order of registration,
 * forward and then backward), within stage3_max_live_parameters, stage3_max_reuse_distance and what the budget leaves. The
 * units that are expected next are read ahead, up to stage3_prefetch_bucket_size elements. A use that is not expected is served
 * like any other, counted, and part of the next plan. Small parameters (stage3_param_persistence_threshold) stay in memory,
 * in units of their own. */
enum {
  ORLOP_UNIT_FROZEN = 1u, /* its parameters take no gradients */
  ORLOP_UNIT_STORED = 2u  /* it lives in the store; without it orlop_param_address has its parameters */
};

typedef struct orlop_unit {
  uint32_t struct_size;
  int32_t dtype;
  uint64_t elements; /* what unshard fills: up to the end of its last parameter */
  uint32_t flags;    /* ORLOP_UNIT_* */
  uint32_t param_count;
} orlop_unit;

/* After commit. Errors: ORLOP_INVALID_ARGUMENT (unknown), ORLOP_OUT_OF_ORDER. */
ORLOP_API orlop_status orlop_unit_get(orlop_engine *engine, uint32_t unit, orlop_unit *info);
/* The unit of a parameter, and the element in it that the parameter begins at, a multiple of 64 bytes. */
ORLOP_API orlop_status orlop_param_unit(orlop_engine *engine, uint32_t id, uint32_t *unit, uint64_t *first);

/* What a unit is used for. */
typedef enum orlop_use {
  ORLOP_USE_FORWARD = 0,
  ORLOP_USE_RECOMPUTE = 1,  /* forward once more, in a backward pass: of an activation checkpoint */
  ORLOP_USE_BACKWARD = 2,
  ORLOP_USE_EVALUATION = 3, /* forward of a pass that no backward pass follows: not remembered, expected in the order of
                               the forward uses */
  ORLOP_USE_ACCESS = 4      /* none of a pass: values are looked at or changed. Not remembered; limits do not hold for it,
                               which is said once in the log where they are exceeded */
} orlop_use;

/* To be called before memory for a stored unit is taken that is not in memory: evicts units that are not in use, as many as
 * the limits want, those first that are needed last. *count receives how many, `evicted` their numbers: their memory is the
 * program's again. At most `capacity` at a time: where *count is `capacity`, call again. As long as uses come as expected there
 * are none, and a program that never calls this keeps within the limits but for the uses that are not. Errors: as below. */
ORLOP_API orlop_status orlop_unit_room(orlop_engine *engine, uint32_t unit, uint32_t *evicted, uint32_t capacity,
                                       uint32_t *count);
/* Begins a use of a stored unit: on return `destination` (elements of the unit's dtype, on the device, the caller's) holds
 * its parameters, each chunk compared with its checksum, in the order of `stream`. Nothing is read if the unit has stayed
 * there. Until it is reshard without staying, or evicted, this memory must be there: a step writes the updated parameters
 * into it, between orlop_step_begin and the end of orlop_step_wait. orlop_param_write and loading a checkpoint do not: unshard
 * again after those. `use` is an orlop_use. *ticket (may be NULL) is done when the memory is filled: in this version when the
 * call returns. Errors: ORLOP_INVALID_ARGUMENT (not a stored unit, not an orlop_use), ORLOP_OUT_OF_ORDER (during a step);
 * those of the store: the engine has stopped. */
ORLOP_API orlop_status orlop_unit_unshard(orlop_engine *engine, uint32_t unit, int32_t use, void *destination,
                                          void *stream, orlop_ticket *ticket);
/* The use is over. *stays becomes 1 where the unit stays in its memory, which the program keeps until orlop_unit_room names
 * the unit or a later use of it ends otherwise; 0: the memory is the program's again. NULL: as 0, whatever was planned. A unit
 * that has stayed may be given up so at any time. */
ORLOP_API orlop_status orlop_unit_reshard(orlop_engine *engine, uint32_t unit, int32_t *stays);

/* Copies `count` elements from `first` on of a plane to or from host memory, converting between fp32, bf16 and fp16
 * (round to nearest even). Writing MASTER sets the PARAM plane too (bf16: round half up of the fp32 value, the rest
 * in the lo plane, exactly); writing PARAM sets the master to that value. MASTER, EXP_AVG and EXP_AVG_SQ are read
 * from and written to wherever they live; blocks for that I/O. GRAD is kept in the parameter's type with one micro-batch,
 * in fp32 with several; the step uses what has been written to it, its norm included. Errors: ORLOP_INVALID_ARGUMENT
 * (range, plane of a frozen parameter), ORLOP_OUT_OF_ORDER (before commit, during a step, GRAD when none has been taken
 * since the last step), I/O errors. */
ORLOP_API orlop_status orlop_param_read(orlop_engine *engine, uint32_t id, int32_t plane, uint64_t first,
                                        uint64_t count, int32_t dtype, void *destination);
ORLOP_API orlop_status orlop_param_write(orlop_engine *engine, uint32_t id, int32_t plane, uint64_t first,
                                         uint64_t count, int32_t dtype, const void *source);

/* ---- Optimizer groups --------------------------------------------------------------------------------------- */

/* An engine has one optimizer, which the configuration's optimizer.type names and which decides what states there are.
 * ADAM: Adam (Kingma & Ba 2015, algorithm 1) and AdamW (Loshchilov & Hutter 2019, algorithm 2); EXP_AVG and EXP_AVG_SQ.
 * ADAGRAD: Duchi, Hazan & Singer 2011, with diagonal matrices; EXP_AVG_SQ is the sum of squared gradients.
 * LION: Chen et al. 2023, algorithm 2; EXP_AVG.
 * EXTERNAL: the program's own. orlop_step then finds the norm, finiteness, clip factor and loss scale and counts the
 * update, but leaves parameters alone: the program reads GRAD (to be multiplied with clip_factor / loss_scale), writes
 * MASTER, and calls orlop_grad_discard. A step that was skipped has discarded them itself. */
enum { ORLOP_OPTIMIZER_ADAM = 0, ORLOP_OPTIMIZER_ADAGRAD = 1, ORLOP_OPTIMIZER_LION = 2, ORLOP_OPTIMIZER_EXTERNAL = 3 };

/* Every value is taken as it stands (lr 0 is a learning rate of 0): start from orlop_group_get. */
typedef struct orlop_group_params {
  uint32_t struct_size;
  uint32_t decoupled_weight_decay; /* ADAM: 1 AdamW, 0 Adam with L2 regularisation; ADAGRAD always 0, LION always 1 */
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  uint32_t bias_correction; /* 1 or 0; ADAM */
  int32_t optimizer;        /* ORLOP_OPTIMIZER_*, the engine's: leave it as orlop_group_get gives it */
  double lr_decay;          /* ADAGRAD: update t uses lr / (1 + (t - 1) lr_decay) */
} orlop_group_params;

/* A group starts with the configuration's optimizer.params. Setting takes effect with the next orlop_step_begin.
 * Errors: ORLOP_INVALID_ARGUMENT (group number, values out of range: lr >= 0, 0 <= beta < 1, eps >= 0, decay >= 0; another optimizer than the engine's). */
ORLOP_API orlop_status orlop_group_get(orlop_engine *engine, int32_t group, orlop_group_params *params);
ORLOP_API orlop_status orlop_group_set(orlop_engine *engine, int32_t group, const orlop_group_params *params);

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

/* An update without an engine, for a program that keeps parameters, gradients and states itself, in host memory: arrays
 * of numel elements, contiguous, aligned to their elements. They stay the program's and must not overlap. */
typedef struct orlop_tensor {
  uint32_t struct_size;
  int32_t param_dtype;  /* an orlop_dtype. A bf16 or f16 parameter has no master here: it is what its update, computed in
                           fp32, is rounded to (to nearest even) */
  int32_t grad_dtype;
  int32_t state_dtype;  /* of the states: ORLOP_F32 unless they are to be rounded as parameters are */
  uint64_t numel;
  void *param;
  const void *grad;
  void *exp_avg;        /* of ADAM and LION, zero before the first update; otherwise NULL */
  void *exp_avg_sq;     /* of ADAM and ADAGRAD, likewise */
  uint64_t step;        /* which update of this tensor it is, from 1: the t of Adam's bias correction */
} orlop_tensor;

/* Updates `count` tensors, one behind the other in memory and all of one struct_size, by the optimizer and the values of
 * `group` (of which orlop_group_set says what is allowed; not EXTERNAL). Gradients are used as they are: not scaled, not
 * clipped, and one that is not finite reaches its parameter. The same bits on every processor and number of threads.
 * Blocks until all are updated, on every processor the process may use; in a child made by fork() on the calling thread
 * alone. Different tensors may be updated from several threads. After an error none has changed. Errors:
 * ORLOP_INVALID_ARGUMENT. */
ORLOP_API orlop_status orlop_tensor_update(const orlop_group_params *group, const orlop_tensor *tensors, uint64_t count);

/* ---- Gradients ---------------------------------------------------------------------------------------------- */

/* Takes the gradient of a parameter (numel elements, contiguous, on the device) into the engine: copied in 16 bits
 * when gradient_accumulation_steps is 1, added in fp32 when several micro-batches accumulate. A second gradient of one
 * parameter in one backward pass is added to the first. In the last micro-batch its squared norm and finiteness are
 * found in the same pass. `gradient` may be reused once the ticket has completed; on the host device that is when
 * the call returns. `stream` is the cudaStream_t that makes the gradient, NULL for the default one or on the host.
 * A trainable parameter without a gradient in a step counts as zero. Errors: ORLOP_INVALID_ARGUMENT (unknown id,
 * frozen, dtype), ORLOP_OUT_OF_ORDER (during a step). */
ORLOP_API orlop_status orlop_grad_ready(orlop_engine *engine, uint32_t id, const void *gradient, int32_t dtype,
                                        void *stream, orlop_ticket *ticket);

/* Waits for a ticket; timeout_ms 0 polls, -1 waits for ever. ORLOP_TIMEOUT when it is still under way. */
ORLOP_API orlop_status orlop_ticket_wait(orlop_engine *engine, orlop_ticket ticket, int32_t timeout_ms);

/* Which micro-batch is the last before an update. */
typedef enum orlop_boundary {
  ORLOP_BOUNDARY_COUNTED = 0, /* every gradient_accumulation_steps-th */
  ORLOP_BOUNDARY_NOT_YET = 1, /* the program knows; the one under way is not */
  ORLOP_BOUNDARY_NOW = 2      /* the program knows; the one under way is */
} orlop_boundary;

/* Lets the program say where updates come, from the micro-batch under way on until it says otherwise. Then any number of
 * micro-batches may precede a step, and a step may begin after each of them. With ORLOP_BOUNDARY_NOW the norm is found while
 * gradients are taken and states are read ahead; without it that is done in the step, which gives the same. Engines begin
 * with COUNTED, with "managed_gradient_accumulation": false with NOT_YET. With gradient_accumulation_steps of 1 several
 * micro-batches are summed in 16 bits where parameters have 16, unless that key is false. Errors: ORLOP_INVALID_ARGUMENT,
 * ORLOP_OUT_OF_ORDER (before commit, during a step). */
ORLOP_API orlop_status orlop_boundary_set(orlop_engine *engine, int32_t boundary);

/* Ends a micro-batch's backward pass. When it was the last before an update, *is_boundary (may be NULL) becomes 1. */
ORLOP_API orlop_status orlop_backward_end(orlop_engine *engine, int32_t *is_boundary);

/* Forgets the gradients taken since the last step; the next backward pass is the first micro-batch again. */
ORLOP_API orlop_status orlop_grad_discard(orlop_engine *engine);

/* ---- Step --------------------------------------------------------------------------------------------------- */

typedef struct orlop_step_params {
  uint32_t struct_size;
  uint32_t reserved;
  double loss_scale; /* what the losses were multiplied with, gradients are divided by it; 0 means orlop_loss_scale */
} orlop_step_params;

typedef struct orlop_step_report {
  uint32_t struct_size;
  uint32_t skipped; /* 1: a gradient was not finite, parameters and states are untouched, bit for bit */
  uint64_t step;    /* updates applied so far: the t of Adam's bias correction */
  uint64_t skipped_steps;
  double grad_norm;   /* L2 norm over all gradients before clipping, unscaled; not finite when skipped */
  double clip_factor; /* what gradients were multiplied with: min(1, gradient_clipping / (norm + 1e-6)) */
  double seconds;     /* from step_begin until the parameters were final */
  double exposed_io_seconds;  /* of these, spent waiting for the store */
  double hidden_io_seconds;   /* since the previous report, the drives were busy while something else ran */
  double adam_seconds;        /* wall time of the arithmetic */
  uint64_t nvme_read_bytes;   /* since the previous report */
  uint64_t nvme_write_bytes;  /* since the previous report */
  double loss_scale;          /* what gradients were divided by */
  double unit_wait_seconds;   /* since the previous report, orlop_unit_unshard waited for the store */
  double unit_copy_seconds;   /* likewise, it filled the program's memory from staging memory, and compared the sums */
} orlop_step_report;

/* What the losses of this update are to be multiplied with before their backward passes: 1 unless the configuration
 * enables fp16. It changes only in steps: a dynamic scale halves when a gradient was not finite and doubles with every
 * fp16.loss_scale_window good steps after the first one (Micikevicius et al. 2018, section 3.2; the exact rule is DeepSpeed's). A program
 * that gives orlop_step_begin a scale of its own keeps count itself. */
ORLOP_API orlop_status orlop_loss_scale(orlop_engine *engine, double *loss_scale);

/* Starts an update with the gradients taken and the group values as they stand; returns at once. `params` may be
 * NULL. A NaN or infinite gradient makes the step be skipped, stops the engine, or is applied, as "orlop.non_finite" says; under a
 * dynamic loss scale it is skipped and lowers the scale, and at the least scale allowed the step fails.
 * Errors: ORLOP_OUT_OF_ORDER (before the boundary micro-batch has ended, a step under way). */
ORLOP_API orlop_status orlop_step_begin(orlop_engine *engine, const orlop_step_params *params);

/* Waits until the parameters are final; write-back of states may go on behind it and is checked by the next call.
 * ORLOP_TIMEOUT when it is not finished after timeout_ms (-1: for ever); call again. `report` may be NULL. Errors:
 * those of the store and the device, ORLOP_CANCELLED, and ORLOP_INVALID_ARGUMENT for a gradient that is not finite where
 * that is not to be skipped: the engine has stopped. */
ORLOP_API orlop_status orlop_step_wait(orlop_engine *engine, int32_t timeout_ms, orlop_step_report *report);

/* orlop_step_begin with the defaults, then orlop_step_wait for ever. */
ORLOP_API orlop_status orlop_step(orlop_engine *engine, orlop_step_report *report);

/* Waits until nothing is in flight and every byte written has been confirmed by the drive's completion. */
ORLOP_API orlop_status orlop_drain(orlop_engine *engine, int32_t timeout_ms);

/* ---- Checkpoints -------------------------------------------------------------------------------------------- */

/* A checkpoint is a directory. What is on NVMe already is not copied: the manifest refers to the store, which keeps
 * those bytes until the directory is deleted (the next checkpoint, or the next run on that drive, notices). Parameters,
 * and states that are in host memory, are copied beside it. It exists once its manifest does, which is renamed into
 * place when everything it names is on the drive; until then what was in that directory before still counts. */

enum {
  ORLOP_SAVE_TRAINED_ONLY = 1u /* frozen parameters are left out: to be loaded with ORLOP_LOAD_COMMON_ONLY */
};

typedef struct orlop_save_params {
  uint32_t struct_size;
  uint32_t flags; /* ORLOP_SAVE_* */
  const char *directory;   /* made if it is not there (its parent must be); a checkpoint in it is replaced */
  const char *client_json; /* a JSON object of the caller's own, given back by orlop_checkpoint_describe; NULL: {} */
  const char *const *replaced_directories; /* removed with all they hold once this checkpoint is complete: so that at
                                              most N are kept. The room they take on the drive is counted on. */
  uint64_t replaced_count;
  const char *latest_file; /* gets the last part of `directory` once it is complete, before others are removed; NULL: none */
  uint64_t bytes_per_second; /* copy no faster than this while nobody waits for it; 0: as fast as possible */
} orlop_save_params;

/* Begins to save parameters, masters, moments, group values, counters and the loss scale as they stand; gradients are
 * not saved. Waits for states that are still being written back, then returns: copying goes on while training does, and
 * an update waits only for blocks it is about to change that have not been copied yet (where states are on NVMe and
 * other checkpoints are replaced, for the end, because their room is needed). The program must not write
 * to parameters' memory itself until orlop_checkpoint_wait has returned. A failure leaves the engine training and the
 * checkpoints there are as they were. Errors: ORLOP_NO_SPACE (with the shortfall), ORLOP_NO_PERMISSION, ORLOP_NOT_FOUND
 * (the parent), ORLOP_OUT_OF_ORDER (during a step; another is being saved). */
ORLOP_API orlop_status orlop_checkpoint_save_begin(orlop_engine *engine, const orlop_save_params *params);

enum {
  ORLOP_LOAD_PARAMS_ONLY = 1u,    /* parameters; masters take their values, moments, counters and groups stay */
  ORLOP_LOAD_REGISTERED_ONLY = 2u, /* what the checkpoint has beyond the registered parameters is left out */
  ORLOP_LOAD_COMMON_ONLY = 4u     /* that, and registered parameters that it does not have stay as they are, with their states */
};

typedef struct orlop_load_params {
  uint32_t struct_size;
  uint32_t flags; /* ORLOP_LOAD_* */
  const char *directory;
} orlop_load_params;

/* Begins to load a checkpoint of the same parameters (names, sizes, dtypes, trainable or not) into this engine, wherever
 * it keeps them; its budgets, queue, tiers and directory need not be those it was saved from. One that was imported
 * fits whichever of its parameters are trained; masters take their values, moments and counters become 0, groups and
 * the loss scale stay. Every byte is compared with its checksum. Gradients taken so far are forgotten. Nothing else may be called but orlop_checkpoint_wait,
 * until that has returned. Errors, with nothing changed: ORLOP_NOT_FOUND (no checkpoint, or its store is gone),
 * ORLOP_INVALID_ARGUMENT (another model: the list of differences), ORLOP_CORRUPT, ORLOP_UNSUPPORTED (of a later version).
 * From orlop_checkpoint_wait: ORLOP_CORRUPT, ORLOP_IO_ERROR; the engine has stopped then. */
ORLOP_API orlop_status orlop_checkpoint_load_begin(orlop_engine *engine, const orlop_load_params *params);

/* Waits for what was begun and gives its outcome, once. ORLOP_TIMEOUT after timeout_ms (-1: for ever); call again. */
ORLOP_API orlop_status orlop_checkpoint_wait(orlop_engine *engine, int32_t timeout_ms);

/* What a checkpoint says of itself, as a JSON object: id, created, steps, params (name, dtype, numel, trainable), store (null, or an object; a list of them where it is on several drives),
 * data_file, data_bytes, has_states (false: imported), loss_scaler, groups, client. Buffer rules as for orlop_config_resolve. Errors: ORLOP_NOT_FOUND,
 * ORLOP_CORRUPT, ORLOP_UNSUPPORTED. Thread-safe. */
ORLOP_API orlop_status orlop_checkpoint_describe(const char *directory, char *buffer, size_t capacity_bytes,
                                                 size_t *needed_bytes);

/* Told some times a second, on the thread that called, how many of the bytes are done; a value other than 0 stops the
 * call, which then returns ORLOP_CANCELLED. */
typedef int32_t (*orlop_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

/* Compares every byte that an engine saved in a checkpoint, those in its store included, with its checksum. `progress` may be NULL.
 * ORLOP_CORRUPT with the first damage found; ORLOP_NOT_FOUND. Thread-safe. */
ORLOP_API orlop_status orlop_checkpoint_verify(const char *directory, orlop_progress progress, void *user);

/* Writes a checkpoint out whole into `target` (a new or empty directory), so that it needs no store and can be moved.
 * Verifies what it reads; takes about 10 MiB of memory. `progress` may be NULL. After an error there is no target.
 * Errors: ORLOP_NO_SPACE, ORLOP_CORRUPT, ORLOP_NOT_FOUND. Thread-safe. */
ORLOP_API orlop_status orlop_checkpoint_export(const char *directory, const char *target, orlop_progress progress,
                                               void *user);

/* An open checkpoint, to read parameters from without an engine. One thread at a time. */
typedef struct orlop_checkpoint orlop_checkpoint;

ORLOP_API orlop_status orlop_checkpoint_open(const char *directory, orlop_checkpoint **checkpoint);
ORLOP_API orlop_status orlop_checkpoint_close(orlop_checkpoint **checkpoint);

/* As orlop_param_read; `param` counts the "params" of orlop_checkpoint_describe from 0. Planes: PARAM, MASTER, and where
 * states were saved EXP_AVG, EXP_AVG_SQ. */
ORLOP_API orlop_status orlop_checkpoint_read(orlop_checkpoint *checkpoint, uint32_t param, int32_t plane, uint64_t first,
                                             uint64_t count, int32_t dtype, void *destination);

/* A checkpoint being made of parameters from elsewhere: open, write every element of every parameter in order, complete,
 * close. It has no optimizer states and needs no store. Takes about 5 MiB of memory. One thread at a time, of the
 * process that opened it. */
typedef struct orlop_import orlop_import;

typedef struct orlop_import_params {
  uint32_t struct_size;
  uint32_t reserved;
  const char *directory;          /* new or empty; parents are made */
  const char *client_json;        /* as in orlop_save_params */
  const orlop_param_desc *params; /* one behind the other, all of one struct_size; name, dtype and numel count */
  uint64_t param_count;
} orlop_import_params;

/* Makes the directory and takes the room for all parameters. Errors, with no directory left: ORLOP_INVALID_ARGUMENT (it
 * is not empty, a name twice, numel 0), ORLOP_NO_SPACE (with the shortfall), ORLOP_NO_PERMISSION. */
ORLOP_API orlop_status orlop_import_open(const orlop_import_params *params, orlop_import **import);

/* The next `count` elements of parameter number `param` (from 0, as in `params`), which begin at `first`; converted from
 * `dtype` (round to nearest even; the same dtype keeps every bit). Blocks when the drive is slower. Errors:
 * ORLOP_OUT_OF_ORDER (other elements come next); ORLOP_INVALID_ARGUMENT (range; a finite value that the parameter's
 * dtype has no room for) and I/O errors, after which it can only be closed. */
ORLOP_API orlop_status orlop_import_write(orlop_import *import, uint32_t param, uint64_t first, uint64_t count,
                                          int32_t dtype, const void *source);

/* Waits until everything is on the drive; the checkpoint exists then. Errors: ORLOP_OUT_OF_ORDER (elements are missing),
 * I/O errors. */
ORLOP_API orlop_status orlop_import_complete(orlop_import *import);

/* Unless it is complete, removes the directory and all it holds. */
ORLOP_API orlop_status orlop_import_close(orlop_import **import);

/* ---- Stores ------------------------------------------------------------------------------------------------- */

enum {
  ORLOP_RECLAIM_DRY_RUN = 1u /* only count */
};

/* Gives back what runs of this machine that have ended left under <nvme_path>/orlop and no checkpoint refers to; runs in
 * use are left alone. Every run does it at its beginning and its end, on each of its drives; a call is for one. *bytes (may be NULL) receives how much. Errors: ORLOP_NOT_FOUND,
 * ORLOP_NO_PERMISSION. Thread-safe. */
ORLOP_API orlop_status orlop_store_reclaim(const char *nvme_path, uint32_t flags, uint64_t *bytes);

/* ---- Host memory -------------------------------------------------------------------------------------------- */

/* Host memory that a program borrows in pieces and gives back, as for activations between forward and backward: in huge
 * pages, registered with a device so that copies to and from it overlap with computing, and kept until the pool is closed.
 * A child made by fork() does not have it. Thread-safe. */
typedef struct orlop_host_pool orlop_host_pool;

enum {
  ORLOP_HOST_POOL_LOCKED = 1u /* its pages are not swapped out, where the system allows that; else a warning says so */
};

typedef struct orlop_host_pool_params {
  uint32_t struct_size;
  int32_t device_kind; /* an orlop_device_kind: whose copies are to be fast */
  int32_t device_index;
  uint32_t flags;       /* ORLOP_HOST_POOL_* */
  uint64_t limit_bytes; /* the most it takes from the system, in steps of 2 MiB; 0: what the system has. Beside an engine
                           with a budget: orlop_stats.activation_bytes, or what host_bytes leaves of host_budget_bytes */
} orlop_host_pool_params;

/* Takes no memory yet. Errors: ORLOP_INVALID_ARGUMENT, ORLOP_UNSUPPORTED and ORLOP_NOT_FOUND for the device. */
ORLOP_API orlop_status orlop_host_pool_open(const orlop_host_pool_params *params, orlop_host_pool **pool);

/* `bytes` (at least 1) at *memory, 4096-aligned, until they are given back. What they hold is not defined. Takes more from
 * the system, 64 MiB at least where the limit allows it, when no free piece is large enough. Errors: ORLOP_NO_MEMORY with
 * the numbers. */
ORLOP_API orlop_status orlop_host_pool_take(orlop_host_pool *pool, uint64_t bytes, void **memory);
/* Copies from and to that memory must have ended. Errors: ORLOP_INVALID_ARGUMENT (it is not lent). */
ORLOP_API orlop_status orlop_host_pool_give_back(orlop_host_pool *pool, void *memory);

typedef struct orlop_host_pool_use {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t limit_bytes; /* 0: none */
  uint64_t host_bytes;  /* taken from the system */
  uint64_t used_bytes;  /* of these: lent now */
  uint64_t peak_bytes;  /* the most that were lent at once */
} orlop_host_pool_use;

ORLOP_API orlop_status orlop_host_pool_look(orlop_host_pool *pool, orlop_host_pool_use *use);

/* Gives everything back to the system, pieces that are lent too. */
ORLOP_API orlop_status orlop_host_pool_close(orlop_host_pool **pool);

/* ---- Files -------------------------------------------------------------------------------------------------- */

/* Reads and writes of a program's own files through a queue of the kind that moves a store: any memory, size and offset,
 * whole and checked. Pages that a move covers whole go past the page cache where the file allows that and offset and memory are
 * aligned (4096 bytes always are); everything else goes through it. Nothing is synchronised with the drive. Thread-safe: calls
 * come from any thread, and one thread of the queue carries moves out, several at a time and in any order. */
typedef struct orlop_file_queue orlop_file_queue;

typedef struct orlop_file_queue_params {
  uint32_t struct_size;
  uint32_t depth;       /* requests in flight, at most 4096; 0: 32 */
  uint64_t block_bytes; /* of one request, at most 1 GiB; rounded down to what a direct file is aligned to; 0: 1 MiB */
  const char *queue;    /* "uring", "aio" or "threads"; NULL: the best that works */
  uint32_t thread_count; /* of "threads", at most 1024; 0: 4 */
  uint32_t reserved;
} orlop_file_queue_params;

/* Errors: ORLOP_INVALID_ARGUMENT, ORLOP_UNSUPPORTED (a queue that is not there). */
ORLOP_API orlop_status orlop_file_queue_open(const orlop_file_queue_params *params, orlop_file_queue **queue);

/* Begins to move `bytes` between memory and the file at `path`, from `offset` on; "/proc/self/fd/N" names what a descriptor
 * refers to. A file to read must have all of them; one to write is made if it is not there (mode 0666 less the umask), and
 * keeps what it has elsewhere. The memory belongs to the queue until *ticket has been waited for; with `ticket` NULL the call
 * waits itself. At most 256 moves may be without having been waited for. Errors: ORLOP_NOT_FOUND, ORLOP_NO_PERMISSION, ORLOP_INVALID_ARGUMENT
 * (the file is too short), ORLOP_OUT_OF_ORDER (256 moves), I/O errors. */
ORLOP_API orlop_status orlop_file_queue_read(orlop_file_queue *queue, const char *path, uint64_t offset, uint64_t bytes,
                                             void *destination, orlop_ticket *ticket);
ORLOP_API orlop_status orlop_file_queue_write(orlop_file_queue *queue, const char *path, uint64_t offset, uint64_t bytes,
                                              const void *source, orlop_ticket *ticket);

/* The outcome of a move, once; a ticket that was waited for counts as done. ORLOP_TIMEOUT after timeout_ms (-1: for ever).
 * Errors: ORLOP_NO_SPACE, ORLOP_IO_ERROR and others, with the path; part of the bytes may have been moved. */
ORLOP_API orlop_status orlop_file_queue_wait(orlop_file_queue *queue, orlop_ticket ticket, int32_t timeout_ms);

/* Waits for every move. */
ORLOP_API orlop_status orlop_file_queue_close(orlop_file_queue **queue);

/* ---- Seeing ------------------------------------------------------------------------------------------------- */

typedef struct orlop_stats {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t params;             /* trainable elements */
  uint64_t steps;              /* updates applied */
  uint64_t skipped_steps;
  uint64_t host_budget_bytes;  /* 0: no limit was set */
  uint64_t host_bytes;         /* of the host, everything included: what the engine allocates, and units in memory */
  uint64_t model_bytes;        /* of these: parameters and gradients, which must be there */
  uint64_t staging_bytes;      /* of these: the ring of slabs */
  uint64_t nvme_bytes;         /* size of the store */
  uint64_t nvme_read_bytes;    /* by steps, since commit */
  uint64_t nvme_write_bytes;
  double exposed_io_seconds;
  double hidden_io_seconds;
  double adam_seconds;
  double step_seconds;
  uint64_t live_limit_bytes; /* of host_bytes (of the device's, for a model on a GPU): planned for units of the store that are
                                in memory, in use or kept; the program's to allocate */
  uint64_t live_bytes;       /* of such units now */
  uint64_t unit_hits;        /* uses of units that were in memory */
  uint64_t unit_fetches;     /* uses of units that were read from the store */
  uint64_t unexpected_uses;  /* uses that were not expected, or expected and did not come, since there was something to expect */
  uint64_t loss_scale_good_steps;     /* of a dynamic loss scale: since the last overflow, or the start */
  uint64_t loss_scale_overflows_left; /* until one halves it, that one included */
  double unit_wait_seconds;  /* as in orlop_step_report */
  double unit_copy_seconds;
  uint64_t activation_bytes; /* of host_bytes: set aside for activations (orlop.memory.activations); the program's to take,
                                from an orlop_host_pool with this limit */
} orlop_stats;

ORLOP_API orlop_status orlop_engine_stats(orlop_engine *engine, orlop_stats *stats);

/* What was decided and why, as a JSON object: config entries, units, blocks, tiers and their bytes, the queue and
 * calibration of each drive, kernels, store paths; host_available_bytes, what the machine or its cgroup can give now. With
 * states on NVMe nvme.by_drive is a list of {path, read_bytes, write_bytes and busy_seconds since commit (something was in
 * flight), read_gb_s and write_gb_s (bytes / busy_seconds), gb_s (measured last; 0: not yet), share (of what is written),
 * store_bytes}. Of each stored unit units[].uses: hits, fetches, unexpected. Buffer rules as for orlop_config_resolve. */
ORLOP_API orlop_status orlop_engine_describe(orlop_engine *engine, char *buffer, size_t capacity_bytes,
                                             size_t *needed_bytes);

/* One number over all final parameters and states: XXH3 (64 bits, seed 0) over, for every trainable parameter in order
 * of id, the four XXH3s of its PARAM, MASTER (fp32), EXP_AVG and EXP_AVG_SQ. The same wherever the bytes live, whatever
 * queue, kernels or number of threads is used. Reads the whole store. */
ORLOP_API orlop_status orlop_engine_digest(orlop_engine *engine, uint64_t *digest);

/* Writes the events since commit as Chrome/Perfetto trace JSON. Recording is on when "orlop.trace" is true. */
ORLOP_API orlop_status orlop_trace_write(orlop_engine *engine, const char *path);

#ifdef __cplusplus
}
#endif

#endif
