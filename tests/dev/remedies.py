"""What docs/troubleshooting.md adds to sentences that do not say enough themselves; the keys are those sentences."""

REMEDIES = {
    # ---- Memory ----
    "host memory: on … (… bytes): needs … bytes (…), … bytes too many; … or …": (
        "The numbers are the plan's own: `orlop plan` gives them for another budget or tier."
    ),
    "host memory: arena of … (… B): takes … B with its page tables, … (… B) of … are available, limited by …: … "
    "(… B) are missing; lower the host budget or free memory": (
        "The limit is the machine's or the control group's, whichever is lower; a container's is its `--memory`."
    ),
    "host memory: on a table of the engine: the system has none left": "See problem 9: another program took it.",
    "device memory: on … (… bytes): parameters need … bytes (… in memory…), … bytes too many": (
        "Parameters are there: 2 bytes each in bf16 and fp16, 4 in fp32. Those that live in the store "
        '(`"offload_param": {"device": "nvme"}`) only while they are in use or kept, at least the largest unit.'
    ),
    "arena: … in small pages: transparent huge pages are off; …": "See the doctor's fix.",
    "arena: … of … are in huge pages: memory is fragmented; direct I/O into the rest is slower": (
        "`echo 1 | sudo tee /proc/sys/vm/compact_memory` before the next run, or fewer other programs."
    ),
    # ---- The drive ----
    "open: …: its filesystem keeps files in memory: what is stored there takes host memory outside every budget "
    "and its speed says nothing about a drive": "See problem 2.",
    "open: …: …: it is read and written through the page cache, which takes host memory outside every budget, "
    "copies each byte once more and cannot keep several requests in flight as a drive wants": "See problem 2.",
    "nvme_path: on …: the store needs … bytes (…), … bytes (…) are free: … bytes (…) too few": "See problem 3.",
    "checkpoint: on the budget orlop.memory.nvme (… bytes): the store needs … bytes to keep one more checkpoint, "
    "… bytes too many; raise the budget, keep fewer, or delete some": (
        "While a checkpoint is kept, the next update needs room for a new generation of every block: problem 3."
    ),
    "reserve: … (… wanted, … of them there, …): …; free that much or choose another nvme_path": "See problem 3.",
    "…: … (…): …": "A transfer was refused by the system; with `EIO` look at `dmesg` and `smartctl -a`: the drive.",
    "…: … (…): no progress in … tries: …": "The drive or its driver accepts requests and moves nothing: see `dmesg`.",
    "sync: …: …; what was written last may be lost": "The drive refused to keep what it had taken: see `dmesg`.",
    "calibration: …: damaged; it is measured anew and the file replaced": "Harmless.",
    "calibration: …: values out of range; it is measured anew": "Harmless.",
    "calibration: …: damaged (…); it is measured anew": "Harmless.",
    # ---- What was read is not what was written ----
    "store: on … (block …, plane …, chunk …, offset …, generation …): what was read is not what was written: "
    "expected sum …, found …": (
        "The drive or the memory returned other bytes; nothing was computed from them. Load the last checkpoint "
        "in a new engine, `orlop verify` it, and look at `smartctl -a` and a memory test before trusting the "
        "machine."
    ),
    "checkpoint: on … (block …, plane …, chunk …): what was read from … is not what was written: expected sum …, "
    "found …; load an older checkpoint": (
        "The file has changed since it was saved; `orlop verify` says which checkpoints are sound."
    ),
    "store file was removed: on … (run …): …": (
        "Something deleted it while the engine used it. What checkpoints referred to in it is lost as well."
    ),
    "store file was overwritten: on …: …": (
        "Two programs used one directory: give each run its own `run_id` or nvme_path."
    ),
    "store file was replaced: on …: …": (
        "Two programs used one directory: give each run its own `run_id` or nvme_path."
    ),
    "read: … (…, file of … bytes): the file ends … bytes too early; it was truncated or replaced since it was "
    "written": "Something else wrote to the store. Load the last checkpoint.",
    # ---- Queues ----
    "io_uring queue: set up with … entries: …": "See problem 4.",
    "io_uring queue: register … of memory: …; works without, at the price of pinning the pages of every request "
    "anew…": "See problem 1.",
    "Linux AIO queue: set up for … requests: …": "`EAGAIN`: `sudo sysctl fs.aio-max-nr=1048576`.",
    "…; using Linux AIO instead, which pins the pages of every request anew and takes several times the processor"
    " time per byte": "See problem 4.",
    "…; using … threads that read and write instead, which takes more processor time per byte and may not reach "
    "the speed of a fast drive": "See problem 4.",
    "… queue: this build has none: configured with -D…=disabled or its library was missing": (
        "Install liburing or libaio and build again (docs/install.md), or take another queue."
    ),
    # ---- Devices ----
    "CUDA device …: this library was built without CUDA; build it with nvcc installed": "See problem 5.",
    "CUDA device …: this machine has none": "See problem 5.",
    # ---- Runs ----
    "run directory: on …: in use by process … on … since …; stop it or choose another run id": (
        "Only when `orlop.run_id` is set: two runs cannot share one. Ended processes never hold it."
    ),
    "run directory: on …: taken by process … on … since …; choose another run id, or remove the directory if that"
    " process is gone": (
        "Its process is on another machine of a shared filesystem and cannot be looked for from here."
    ),
    # ---- Checkpoints ----
    "checkpoint: on …: its optimizer states are in a store that is not there any more: …; a checkpoint refers to "
    "its store: to move or copy one, write it out whole with `orlop export --full … TARGET` first": "See problem 6.",
    "checkpoint: on … (… differences): it is of another model: …": (
        "Names, sizes and types must be those that were saved; so must be which parameters are trained."
    ),
    "checkpoint: on …: …: it holds no complete checkpoint of Orlop": (
        "A save that was interrupted leaves such a directory; the one before it is complete. `orlop ls` lists "
        "them."
    ),
    # ---- Steps ----
    'step …: on the gradient of "…": it is not finite at the least loss scale (…); lower the learning rate or '
    "fp16.min_loss_scale": "See problem 7.",
    'step …: on the gradient of "…": it is not finite; "orlop.non_finite" says stop': "See problem 8.",
    'step …: on the gradient of "…": it is not finite; the step is skipped, nothing was changed (said once; '
    "skipped steps are counted)": "See problem 8.",
    'step …: on the gradient of "…": it is not finite at loss scale …; the step is skipped': (
        "Usual now and then: it is how the dynamic scale finds its place. At every step: problem 7."
    ),
    "sweep: cancelled before block …": (
        "`orlop_engine_cancel` or Ctrl-C. The engine has stopped; load the last checkpoint."
    ),
    # ---- Calls ----
    "…: on an engine of process … in its child …: engines do not cross fork(); open one in the child": (
        "DataLoader workers may not touch the engine; its parameters' memory is the parent's."
    ),
    "…: on byte … of a struct of …: this library knows … bytes; it is older than the header": (
        "The program was built against a newer orlop.h than the library it found: see `LD_LIBRARY_PATH`."
    ),
    "…: on …: …": (
        "Writing a small file durably failed (create, write, sync, link, rename, open): the reason is at its end."
    ),
    "…; going on without it": (
        "A file of /proc or /sys cannot be read: the engine then assumes there is no such limit."
    ),
    "internal: …": "A bug: please report it with the sentence.",
    "engine thread: …": "A bug: please report it with the sentence.",
    "I/O thread: …": "A bug: please report it with the sentence.",
    "mover: … tickets: nobody has waited for them": "A bug: please report it with the sentence.",
    # ---- Configuration ----
    "config: on … (…): …": "A key that is refused: docs/config.md gives each one's reason and what to write instead.",
    "config: on …: without effect: …": "Harmless: docs/config.md says why the key needs no effect here.",
    "config: on …: unknown key…": '`"orlop": {"strict_config": true}` makes it an error.',
    # ---- Python ----
    "…: on …: its memory was replaced since initialize (by model.to(), .half() or p.data = ...), so the "
    "engine's values are not the model's: convert or move the model before": (
        "Parameters are views of the engine's memory."
    ),
}
