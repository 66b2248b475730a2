"""offload_bench as people run it: what it prints and writes, that results do not depend on where bytes live, and that
every bad input ends with one clear sentence and nothing left behind.

usage: offload_bench_test.py PROGRAM [TEST...]      the program to test, then what unittest takes
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = ""
SMALL = ["--params", "2M", "--steps", "2", "--compare", "none"]
ENDLESS = ["--params", "20M", "--steps", "100000", "--compare", "none"]
PATIENCE = 120.0  # seconds; nothing here takes more than a few on an idle machine
NOBODY = 65534


def run(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, **(env or {})}, **options)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


def bytes_written(process: subprocess.Popen[str]) -> int:
    try:
        text = Path(f"/proc/{process.pid}/io").read_text()
    except OSError:
        return 0
    found = re.search(r"^write_bytes: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


class BenchTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="offload-bench-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.nvme = self.folder / "nvme"
        self.nvme.mkdir()

    def on_nvme(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(*arguments, "--nvme_path", str(self.nvme), **options)

    def report(self, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        out = self.folder / "out.json"
        done = run(*arguments, "--json", str(out), env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(out.read_text())

    def assert_fails(self, done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assert_one_sentence(done.stderr, *words)
        self.assert_nothing_left()

    def assert_one_sentence(self, stderr: str, *words: str) -> None:
        self.assertRegex(stderr, r"\Aoffload_bench: [^\n]+\n\Z")
        for word in words:
            self.assertIn(word, stderr)

    def assert_nothing_left(self) -> None:
        self.assertEqual(sorted(self.nvme.rglob("*")), [])

    @contextmanager
    def running(self, *arguments: str, run_id: str = "test") -> Iterator[subprocess.Popen[str]]:
        """A run that has done a few steps on NVMe."""
        command = [PROGRAM, *ENDLESS, "--nvme_path", str(self.nvme), "--run_id", run_id, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        store = self.store(run_id)
        try:
            wait_for("steps", lambda: process.poll() is not None
                     or (store.exists() and bytes_written(process) > 3 * store.stat().st_size > 0))
            self.assertIsNone(process.poll(), "the run ended by itself")
            yield process
        finally:
            process.kill()
            process.communicate()

    def store(self, run_id: str = "test") -> Path:
        return self.nvme / "orlop" / run_id / "rank0.store"


class Digests(BenchTest):
    def digest(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        report = self.report(*SMALL, *arguments, env=env)
        digest = report["summary"]["digest"]
        self.assertRegex(digest, r"\A[0-9a-f]{16}\Z")
        return digest

    def digest_if_usable(self, *arguments: str, env: dict[str, str] | None = None) -> str | None:
        """None where the machine lacks a queue or an instruction set; anything else that goes wrong fails."""
        probe = run(*SMALL, *arguments, env=env)
        cannot = probe.returncode == 1 and re.search("not supported|cannot run|not built|not permitted|without",
                                                     probe.stderr)
        return None if cannot else self.digest(*arguments, env=env)

    def test_are_the_same_on_every_device(self) -> None:
        for dtype in ("bf16", "fp32"):
            expected = self.digest("--dtype", dtype, "--device", "none")
            self.assertEqual(self.digest("--dtype", dtype, "--device", "cpu"), expected)
            self.assertEqual(self.digest("--dtype", dtype, "--nvme_path", str(self.nvme)), expected)
            for extra in (["--param_device", "nvme"], ["--param_device", "nvme", "--device", "cpu"], ["--pinned", "0.5"],
                          ["--ram", "1G"]):
                self.assertEqual(self.digest("--dtype", dtype, "--nvme_path", str(self.nvme), *extra), expected, extra)
        self.assert_nothing_left()

    def test_are_the_same_on_any_number_of_drives(self) -> None:
        expected = self.digest("--device", "none")
        drives = [self.nvme / name for name in ("a", "b", "c")]
        for drive in drives:
            drive.mkdir()
        for count in (1, 2, 3):
            paths = [part for drive in drives[:count] for part in ("--nvme_path", str(drive))]
            report = self.report(*SMALL, *paths)
            self.assertEqual(report["summary"]["digest"], expected)
            nvme = report["summary"]["nvme"]
            self.assertEqual([drive["path"] for drive in nvme["by_drive"]], [str(drive) for drive in drives[:count]])
            for key in ("read_bytes", "write_bytes"):
                self.assertEqual(sum(drive[key] for drive in nvme["by_drive"]), nvme[f"engine_{key}"])
            self.assertAlmostEqual(sum(drive["share"] for drive in nvme["by_drive"]), 1)
        for drive in drives:
            drive.rmdir()  # nothing is left there

    def test_are_the_same_with_every_queue(self) -> None:
        expected = self.digest("--device", "none")
        self.assertEqual(self.digest("--nvme_path", str(self.nvme), "--queue", "threads"), expected)
        for queue in ("uring", "aio"):
            with self.subTest(queue=queue):
                found = self.digest_if_usable("--nvme_path", str(self.nvme), "--queue", queue)
                self.assertIn(found, (expected, None))

    def test_are_the_same_with_every_instruction_set(self) -> None:
        expected = self.digest("--device", "none", env={"ORLOP_CPU": "scalar"})
        for isa in ("avx2", "avx512"):
            with self.subTest(isa=isa):
                found = self.digest_if_usable("--device", "none", env={"ORLOP_CPU": isa})
                self.assertIn(found, (expected, None))
        on_nvme = self.digest("--nvme_path", str(self.nvme), env={"ORLOP_CPU": "scalar"})
        self.assertEqual(on_nvme, expected)

    def test_are_the_same_for_any_number_of_threads(self) -> None:
        expected = self.digest("--device", "none", "--threads", "1")
        for threads in ("2", "3"):
            self.assertEqual(self.digest("--device", "none", "--threads", threads), expected)
        self.assertEqual(self.digest("--nvme_path", str(self.nvme), "--threads", "3"), expected)

    def test_are_the_same_however_long_the_device_computes(self) -> None:
        expected = self.digest("--device", "none")
        for load in ("sleep", "busy"):
            found = self.digest("--nvme_path", str(self.nvme), "--device_time", "100", "--device_load", load)
            self.assertEqual(found, expected)

    def test_differ_with_seed_steps_and_clipping(self) -> None:
        found = {self.digest("--device", "none"), self.digest("--device", "none", "--seed", "2"),
                 self.digest("--device", "none", "--clip", "0.01")}
        more = self.report("--params", "2M", "--steps", "3", "--device", "none")["summary"]["digest"]
        self.assertEqual(len(found | {more}), 4)


class Reports(BenchTest):
    QUANTILES = {"median": float, "p10": float, "p90": float}
    SUMMARY = {
        "params": int, "steps": int, "step_seconds": QUANTILES,
        "nvme": {"read_bytes_per_param": float, "write_bytes_per_param": float, "read_gb_s": float, "write_gb_s": float,
                 "roof_gb_s": float, "roof_fraction": float},
        "adam": {"gparam_s": float, "roof_fraction": float, "isa": str, "threads": int},
        "host": {"budget_bytes": int, "peak_bytes": int, "model_bytes": int, "pinned_fraction": float},
        "exposed_io_seconds": float, "bound_seconds": float, "bound_fraction": float, "cpu_seconds_per_gb": float,
        "digest": str}

    def assert_shape(self, value: Any, shape: Any, where: str = "summary") -> None:
        if isinstance(shape, dict):
            for key, inner in shape.items():
                self.assertIn(key, value, where)
                self.assert_shape(value[key], inner, f"{where}.{key}")
            return
        self.assertIs(type(value), shape, where)
        if shape is not str:
            self.assertGreaterEqual(value, 0, where)

    def test_a_terminal_has_a_line_for_each_drive_that_is_gone_at_the_end(self) -> None:
        terminal, program_end = pty.openpty()
        fcntl.ioctl(program_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
        shown: list[bytes] = []

        def read() -> None:
            with contextlib.suppress(OSError):  # the program has ended
                while piece := os.read(terminal, 4096):
                    shown.append(piece)

        reader = threading.Thread(target=read)
        reader.start()
        arguments = [PROGRAM, *SMALL, "--nvme_path", str(self.nvme)]
        done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=program_end, timeout=PATIENCE)
        os.close(program_end)
        reader.join()
        os.close(terminal)
        text = b"".join(shown).decode()
        self.assertEqual(done.returncode, 0, text)
        self.assertRegex(text, rf"\] step 2 of 2[^\n]*\n  {re.escape(str(self.nvme))}: [\d.]+ GB/s read, [\d.]+ written")
        self.assertTrue(text.endswith("\r\x1b[J"), repr(text[-40:]))

    def test_json_has_every_figure(self) -> None:
        report = self.report("--params", "8M", "--steps", "3", "--ram", "1G", "--pinned", "0.5", "--nvme_path", str(self.nvme))
        self.assert_shape(report["summary"], self.SUMMARY)
        summary = report["summary"]
        self.assertEqual(summary["params"], 8_000_000)
        self.assertEqual(summary["steps"], 3)
        self.assertEqual(summary["host"]["budget_bytes"], 1 << 30)
        self.assertEqual(summary["host"]["model_bytes"] // 1_000_000, 32)
        quantiles = summary["step_seconds"]
        self.assertTrue(quantiles["p10"] <= quantiles["median"] <= quantiles["p90"])
        for key in ("cpu", "processors", "kernel", "filesystem", "drive"):
            self.assertTrue(report["machine"][key])
        self.assertTrue(report["versions"]["orlop"])
        self.assertEqual(report["engine"]["states"]["tier"], "nvme")
        self.assertEqual(len(report["steps"]), 3)
        for step in report["steps"]:  # parameters are in memory
            self.assertEqual((step["unit_wait_seconds"], step["unit_copy_seconds"]), (0, 0))
        names = [case["name"] for case in report["cases"]]
        self.assertEqual(names[:3], ["step", "raw loop, half and half", "adam, inside the step"])
        self.assertEqual(report["comparison"]["left_out"], "arithmetic")

    # A block's planes are multiples of 4096 bytes and a block has about 2 Mi elements, so that the least is met closely.
    def test_traffic_is_ten_bytes_each_way_by_the_kernels_count_and_by_ours(self) -> None:
        nvme = self.report("--params", "8M", "--steps", "3", "--compare", "none", "--nvme_path",
                           str(self.nvme))["summary"]["nvme"]
        for way in ("read", "write"):
            self.assertGreaterEqual(nvme[f"{way}_bytes_per_param"], 10.0)
            self.assertLessEqual(nvme[f"{way}_bytes_per_param"], 10.1)
            ours, kernels = nvme[f"engine_{way}_bytes"], nvme[f"kernel_{way}_bytes"]
            self.assertLessEqual(abs(ours - kernels), 0.01 * kernels)

    def test_traffic_falls_by_what_is_pinned(self) -> None:
        for extra, whole in ((["--param_device", "none"], 20.0), (["--param_device", "nvme"], 28.0)):
            summary = self.report("--params", "32M", "--steps", "2", "--compare", "none", "--pinned", "0.5", *extra,
                                  "--nvme_path", str(self.nvme))["summary"]
            moved = sum(summary["nvme"][f"{way}_bytes_per_param"] for way in ("read", "write"))
            share = 1 - summary["host"]["pinned_fraction"]
            self.assertAlmostEqual(share, 0.5, delta=0.1)
            self.assertLessEqual(moved, whole * share * 1.02)

    def test_a_budget_with_room_for_everything_leaves_the_drive_alone(self) -> None:
        report = self.report(*SMALL, "--ram", "1G", "--param_device", "nvme", "--nvme_path", str(self.nvme))
        self.assertEqual(report["summary"]["host"]["pinned_fraction"], 1)
        self.assertEqual(report["summary"]["nvme"]["store_bytes"], 0)
        self.assertEqual(report["summary"]["nvme"]["kernel_write_bytes"], 0)

    def test_states_in_memory_have_memorys_roof_and_no_drive(self) -> None:
        report = self.report(*SMALL, "--device", "cpu")
        self.assertIsNone(report["summary"]["nvme"]["roof_gb_s"])
        self.assertGreater(report["summary"]["bound_fraction"], 0)
        self.assertEqual(report["engine"]["states"]["tier"], "host")

    def test_peak_memory_is_what_was_planned_and_little_more(self) -> None:
        host = self.report("--params", "8M", "--steps", "2", "--nvme_path", str(self.nvme))["summary"]["host"]
        self.assertLessEqual(host["peak_bytes"], host["model_bytes"] + host["staging_bytes"] + (64 << 20))

    def test_comparisons_leave_out_what_they_say(self) -> None:
        for what in ("arithmetic", "checksums"):
            report = self.report("--params", "2M", "--steps", "1", "--compare", what, "--nvme_path", str(self.nvme))
            self.assertEqual(report["comparison"]["left_out"], what)
            self.assertEqual(report["comparison"]["pairs"], 4)
            self.assertGreater(report["comparison"]["speed_fraction"], 0)
        self.assert_nothing_left()

    def test_a_configuration_file_is_honoured_and_overridden(self) -> None:
        config = self.folder / "config.json"
        config.write_text(json.dumps({"bf16": {"enabled": True}, "gradient_accumulation_steps": 2, "zero_optimization": {
            "offload_optimizer": {"device": "nvme", "nvme_path": "/nowhere"}}}))
        report = self.report(*SMALL, "--config", str(config), "--nvme_path", str(self.nvme), "--queue", "threads")
        self.assertEqual(report["engine"]["states"]["queue"], "threads")
        self.assertEqual(report["engine"]["config"]["values"]["gradient_accumulation_steps"], 2)

    def test_a_trace_is_one_that_viewers_read(self) -> None:
        trace = self.folder / "trace.json"
        done = self.on_nvme(*SMALL, "--trace", str(trace))
        self.assertEqual(done.returncode, 0, done.stderr)
        loaded = json.loads(trace.read_text())
        events = loaded["traceEvents"] if isinstance(loaded, dict) else loaded
        self.assertTrue({"step", "gradient"} <= {event["name"] for event in events})

    def test_with_nothing_else_a_size_is_chosen_and_explained(self) -> None:
        begin = time.monotonic()
        done = run("--device", "nvme", "--nvme_path", str(self.nvme), "--ram", "64M")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(time.monotonic() - begin, 60)
        self.assertRegex(done.stdout, r"Chose .* parameters because .*\n")
        self.assertRegex(done.stdout, r"case +size +median +p10 +p90 +GB/s +% of roof\nstep ")
        self.assertEqual(done.stderr, "")
        self.assert_nothing_left()

    def test_io_stands_beside_a_raw_loop(self) -> None:
        out = self.folder / "out.json"
        done = self.on_nvme("io", "--size", "64M", "--rounds", "2", "--json", str(out))
        self.assertEqual(done.returncode, 0, done.stderr)
        cases = {case["name"]: case for case in json.loads(out.read_text())["io"]}
        self.assertEqual(set(cases), {"read", "write", "mix"})
        for case in cases.values():
            self.assertGreater(case["gb_s"]["median"], 0)
            self.assertGreater(case["roof_gb_s"]["median"], 0)
        self.assert_nothing_left()

    def test_adam_stands_beside_memory(self) -> None:
        report = self.report("adam", "--elements", "1M", "--rounds", "2", "--threads", "2", "--dtype", "bf16")
        self.assertEqual({case["threads"] for case in report["adam"]}, {1, 2})
        for case in report["adam"]:
            self.assertGreater(case["roof_fraction"]["median"], 0)

    def test_a_plan_stands_beside_other_rules(self) -> None:
        traces = Path(__file__).parents[1] / "zero3" / "traces"
        report = self.report("trace", str(traces / "gpt.json"))["trace"]
        plan, lru, deepspeed = (policy["step"] for policy in report["policies"])
        self.assertLess(plan["bytes_fetched"], min(lru["bytes_fetched"], deepspeed["bytes_fetched"]))
        self.assertLess(plan["stall_seconds"], min(lru["stall_seconds"], deepspeed["stall_seconds"]))
        self.assertLessEqual(plan["peak_live_elements"], report["max_live_elements"])
        self.assertEqual(report["differing_uses"], {})
        moe = self.report("trace", str(traces / "moe.json"))["trace"]
        self.assertTrue(all("expert" in name for name in moe["differing_uses"]), moe["differing_uses"])

    def test_help_is_there_and_needs_no_directory(self) -> None:
        for arguments in (["--help"], ["step", "--help"], ["io", "-h"], ["adam", "--help"], ["trace", "--help"],
                          ["--version"]):
            done = run(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("offload_bench", done.stdout)


class BadInput(BenchTest):
    def test_a_missing_directory(self) -> None:
        for arguments in (SMALL, [], ["io"]):
            done = run(*arguments, "--nvme_path", str(self.folder / "none"))
            self.assert_fails(done, 1, str(self.folder / "none"), "No such file or directory")

    def test_a_file_for_a_directory(self) -> None:
        file = self.folder / "file"
        file.touch()
        self.assert_fails(run(*SMALL, "--nvme_path", str(file)), 1, str(file), "is not a directory")

    def test_a_directory_that_may_not_be_written(self) -> None:
        """Root may write anywhere, so root tries it as somebody else."""
        program = shutil.copy(PROGRAM, self.folder / "offload_bench")
        self.folder.chmod(0o755)
        self.nvme.chmod(0o555)
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run([program, *SMALL, "--nvme_path", str(self.nvme)], capture_output=True, text=True,
                              timeout=PATIENCE, cwd="/", **user)
        self.assert_fails(done, 1, str(self.nvme), "Permission denied")

    def test_no_directory_at_all(self) -> None:
        self.assert_fails(run(*SMALL, "--device", "nvme"), 2, "--nvme_path")

    def test_too_little_memory_by_how_much(self) -> None:
        done = self.on_nvme("--params", "50M", "--ram", "100M")
        self.assert_fails(done, 1, "host memory", "parameters and gradients")
        found = re.search(r"\((\d+) bytes\): needs (\d+) bytes .*, (\d+) bytes too many", done.stderr)
        assert found, done.stderr
        limit, needed, missing = map(int, found.groups())
        self.assertEqual(limit, 100 << 20)
        self.assertEqual(needed - limit, missing)

    def test_too_little_disk_by_how_much(self) -> None:
        config = self.folder / "config.json"
        config.write_text('{"orlop": {"memory": {"nvme": "16M"}}}')
        done = self.on_nvme(*SMALL, "--config", str(config))
        self.assert_fails(done, 1, "nvme", "bytes too many")

    def test_a_disk_that_is_too_small(self) -> None:
        """On a small filesystem of its own, where namespaces allow to mount one."""
        script = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
        namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
        if shutil.which("unshare") is None or subprocess.run([*namespace, script, str(self.nvme), "true"],
                                                             capture_output=True).returncode != 0:
            self.skipTest("no filesystem can be mounted here (namespaces are not permitted)")
        done = subprocess.run([*namespace, script, str(self.nvme), PROGRAM, "--params", "8M", "--nvme_path",
                               str(self.nvme)], capture_output=True, text=True, timeout=PATIENCE)
        self.assert_fails(done, 1, str(self.nvme), "bytes")

    def test_a_run_that_is_in_use(self) -> None:
        with self.running() as first:
            done = self.on_nvme(*SMALL, "--run_id", "test")
            self.assertEqual(done.returncode, 1)
            self.assert_one_sentence(done.stderr, "in use by process", str(first.pid))
            self.assertIsNone(first.poll())
            self.assertTrue(self.store().exists())

    def test_a_configuration_with_mistakes(self) -> None:
        cases = {'{"gradient_cliping": 1}': "gradient_clipping", '{"train_batch_size": "many"}': "train_batch_size",
                 '{"fp16": {"enabled": true}, "bf16": {"enabled": true}}': "fp16", '{': "config.json"}
        config = self.folder / "config.json"
        for text, word in cases.items():
            with self.subTest(text=text):
                config.write_text(text)
                self.assert_fails(run("--params", "2M", "--config", str(config)), 1, "config.json", word)

    def test_a_model_that_is_not_known(self) -> None:
        self.assert_fails(self.on_nvme("--model", "gtp2-xl"), 2, 'did you mean "gpt2-xl"?')

    def test_a_wrong_command_line(self) -> None:
        for arguments in (["--nope"], ["--params", "x"], ["disk"], ["io"], ["--layers", "2"], ["--device", "gpu"]):
            with self.subTest(arguments=arguments):
                self.assert_fails(run(*arguments), 2)

    def test_an_instruction_set_that_is_none(self) -> None:
        self.assert_fails(run(*SMALL, env={"ORLOP_CPU": "mmx"}), 1, "ORLOP_CPU", "mmx")

    def test_a_run_id_that_is_no_name(self) -> None:
        self.assert_fails(self.on_nvme(*SMALL, "--run_id", "../../etc"), 1, "run_id", "../../etc")

    def test_reports_that_cannot_be_written_are_said_before_the_run(self) -> None:
        begin = time.monotonic()
        for option in ("--json", "--trace"):
            self.assert_fails(self.on_nvme(*ENDLESS, option, str(self.folder / "none/out")), 1, option, "cannot be written")
        self.assertLess(time.monotonic() - begin, 20)


class Damage(BenchTest):
    """The store is changed under a running program, which must notice, say so, and stop."""

    def assert_notices(self, process: subprocess.Popen[str], damage: Callable[[], None], *words: str) -> None:
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if self.store().exists():
                damage()
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        self.assertEqual(process.poll(), 1, "it did not notice")
        _, stderr = process.communicate()
        self.assert_one_sentence(stderr, "rank0.store", *words)
        self.assert_nothing_left()

    def write(self, offset: int, data: bytes) -> None:
        try:
            with self.store().open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), data, offset)
                os.fsync(file.fileno())
        except FileNotFoundError:
            pass  # the program was faster

    def test_a_truncated_store(self) -> None:
        with self.running() as process:
            self.assert_notices(process, lambda: os.truncate(self.store(), 1 << 20) if self.store().exists() else None)

    # A byte that is overwritten before it is read again does no harm, so others follow until one is read.
    def test_a_flipped_byte(self) -> None:
        with self.running() as process:
            size = self.store().stat().st_size
            offsets = iter(range(size // 3, size, 1_000_003))

            def flip() -> None:
                offset = next(offsets)
                try:
                    with self.store().open("rb", buffering=0) as file:
                        byte = os.pread(file.fileno(), 1, offset)
                except FileNotFoundError:
                    return
                if byte:  # else the program was faster: its store is being removed
                    self.write(offset, bytes([byte[0] ^ 1]))

            self.assert_notices(process, flip)

    def test_another_runs_store_in_its_place(self) -> None:
        with self.running(run_id="other") as other:
            data = self.store("other").read_bytes()
            other.send_signal(signal.SIGINT)
            other.communicate()
        with self.running() as process:
            self.assert_notices(process, lambda: self.write(0, data))


class Interrupts(BenchTest):
    def assert_ends(self, process: subprocess.Popen[str], number: int) -> None:
        process.send_signal(number)
        begin = time.monotonic()
        _, stderr = process.communicate(timeout=PATIENCE)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual(process.returncode, 128 + number)
        self.assert_one_sentence(stderr, f"interrupted by signal {number}")
        self.assert_nothing_left()

    def test_during_a_step(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number), self.running() as process:
                self.assert_ends(process, number)

    def test_while_the_device_computes(self) -> None:
        for load in ("sleep", "busy"):
            with self.subTest(load=load), self.running("--device_time", "200", "--device_load", load) as process:
                self.assert_ends(process, signal.SIGINT)

    def test_while_setting_up(self) -> None:
        for delay in (0.05, 0.1, 0.2, 0.4, 0.8):
            process = subprocess.Popen([PROGRAM, *ENDLESS, "--nvme_path", str(self.nvme)], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            time.sleep(delay)
            with self.subTest(delay=delay):
                self.assert_ends(process, signal.SIGINT)

    def test_what_a_killed_run_leaves_is_reclaimed_by_the_next(self) -> None:
        with self.running() as process:
            process.kill()
            process.communicate()
        self.assertTrue(self.store().exists())
        done = self.on_nvme(*SMALL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_nothing_left()

    def test_a_killed_io_run_leaves_nothing(self) -> None:
        process = subprocess.Popen([PROGRAM, "io", "--size", "256M", "--rounds", "1000", "--nvme_path", str(self.nvme)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for("traffic", lambda: process.poll() is not None or bytes_written(process) > (512 << 20))
        self.assertIsNone(process.poll())
        process.kill()
        process.communicate()
        self.assert_nothing_left()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
