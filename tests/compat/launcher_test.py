"""The `deepspeed` command: machines and devices, the ranks it starts, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orlop
import pytest
from deepspeed.launcher import launch, multinode_runner, runner
from deepspeed.launcher._cores import cores_of
from deepspeed.utils.numa import parse_range_list
from orlop import _ranks

SAY = """
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT", "GIVEN", "OMP_NUM_THREADS")
said = {name: os.environ.get(name) for name in names}
said |= {"arguments": sys.argv[1:], "cores": sorted(os.sched_getaffinity(0)), "folder": os.getcwd()}
sys.stdout.write(json.dumps(said) + chr(10))
"""

HOSTS = {"one": [0, 1, 2, 3], "two": [0, 1, 2, 3]}


def script(folder: Path, text: str) -> str:
    file = folder / "train.py"
    file.write_text(text)
    return str(file)


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    return sorted(lines, key=lambda line: str(line["RANK"]))


def launched(ranks: int, *arguments: str) -> int:
    """The ranks of one machine; gives the exit status."""
    info = launch.encode_world_info({"localhost": list(range(ranks))})
    return launch.run(launch.parse_args([f"--world_info={info}", "--master_port=1234", *arguments]))


def status_of(call: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as ended:
        call()
    return int(ended.value.code or 0)


# ---- Hostfiles and filters ----


def test_a_hostfile_has_a_machine_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "hostfile"
    file.write_text("# ours\n\nworker-2   slots=4  # the old one\nuser@worker-1 slots=2\n")
    assert list((runner.fetch_hostfile(file) or {}).items()) == [("worker-2", 4), ("user@worker-1", 2)]
    assert runner.fetch_hostfile(tmp_path / "none") is None


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "worker-1\n", "worker-1 slots=x\n", "worker-1 slots=1 2\n", "a slots=1\na slots=1\n"]
)
def test_a_hostfile_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hostfile"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"hostfile: on {file}"):
        runner.fetch_hostfile(file)


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ("", "", HOSTS),
        ("two", "", {"two": [0, 1, 2, 3]}),
        ("two:1,0@one:3", "", {"one": [3], "two": [0, 1]}),
        ("two:0,0@two:0", "", {"two": [0]}),
        ("", "two", {"one": [0, 1, 2, 3]}),
        ("", "two:0,2@one:1", {"one": [0, 2, 3], "two": [1, 3]}),
        ("", "one:0,1,2,3", {"two": [0, 1, 2, 3]}),
    ],
)
def test_filters_leave_machines_and_devices(include: str, exclude: str, left: dict[str, list[int]]) -> None:
    found = runner.parse_resource_filter(HOSTS, include_str=include, exclude_str=exclude)
    assert list(found.items()) == list(left.items())


@pytest.mark.parametrize(
    ("include", "exclude"),
    [
        ("one", "two"),
        ("three", ""),
        ("", "three"),
        ("one:4", ""),
        ("", "one:4"),
        ("one:x", ""),
        ("one:0 1", ""),
        ("@", ""),
    ],
)
def test_filters_that_name_what_is_not_there_are_refused(include: str, exclude: str) -> None:
    with pytest.raises(ValueError, match="filter: on "):
        runner.parse_resource_filter(HOSTS, include_str=include, exclude_str=exclude)


def test_range_lists_go_up() -> None:
    assert parse_range_list("0,2-4,6") == [0, 2, 3, 4, 6]
    for wrong in ("0,2-4,4", "4,3", "4-2", "0-2,1", "x", "", "1-", "1,,2"):
        with pytest.raises(ValueError, match="range list: on "):
            parse_range_list(wrong)


# ---- The command line ----


def test_the_command_starts_one_rank(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", "to the script")
    runner.main(["--num_gpus=1", script(tmp_path, SAY), "--lr", "1"])
    (rank,) = said(capfd)
    assert rank | {"MASTER_PORT": None} == {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": None,
        "GIVEN": "to the script",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "arguments": ["--local_rank=0", "--lr", "1"],
        "cores": sorted(os.sched_getaffinity(0)),
        "folder": os.getcwd(),
    }
    assert int(str(rank["MASTER_PORT"])) > 0


def test_its_exit_status_is_the_scripts(tmp_path: Path) -> None:
    assert status_of(lambda: runner.main([script(tmp_path, "raise SystemExit(7)")])) == 7
    assert status_of(lambda: runner.main([script(tmp_path, "import os; os.kill(os.getpid(), 9)")])) == 128 + 9


def test_a_module_or_a_program_can_be_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, SAY)
    monkeypatch.chdir(tmp_path)
    runner.main(["--module", "--no_local_rank", "--master_port", "4321", "--master_addr", "localhost", "train", "x"])
    (rank,) = said(capfd)
    assert (rank["arguments"], rank["MASTER_PORT"], rank["MASTER_ADDR"]) == (["x"], "4321", "localhost")
    runner.main(["--no_python", "--no_local_rank", "/bin/echo", "hello"])
    assert capfd.readouterr().out == "hello\n"
    with pytest.raises(FileNotFoundError, match="no such program"):
        runner.main(["--no_python", "nowhere/echo"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num_nodes=1", "-i", "localhost"],
        ["--num_gpus=1", "-i", "localhost"],
        ["--num_nodes=1", "-e", "localhost"],
        ["--num_gpus=1", "--exclude", "localhost"],
        ["--num_gpus=0"],
        ["--num_nodes=2"],
        ["-e", "localhost"],
        ["-i", "localhost:7"],
        ["--module", "--no_python"],
        ["--launcher=telnet"],
        ["--no_ssh"],
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(ValueError):
        runner.main([*arguments, script(tmp_path, "raise SystemExit(99)")])


@pytest.mark.parametrize("launcher", ["openmpi", "mpich", "impi", "slurm", "MVAPICH"])
def test_mpi_is_refused_by_name(launcher: str) -> None:
    with pytest.raises(NotImplementedError, match=f"--launcher {launcher}: .* pdsh or ssh"):
        runner.main(["--launcher", launcher, "train.py"])


@pytest.mark.parametrize("flag", ["--autotuning=run", "--elastic_training"])
def test_what_is_not_offered_is_refused_by_name(flag: str) -> None:
    with pytest.raises(NotImplementedError, match=flag.partition("=")[0]):
        runner.main([flag, "train.py"])


def test_several_ranks_are_refused_before_any_is_started(tmp_path: Path) -> None:
    with pytest.raises(orlop.UnsupportedError, match="launch: on 4 ranks: .* one rank; write --num_gpus=1"):
        runner.main(["--num_gpus=4", script(tmp_path, "open('started', 'w')")])
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("one slots=4\ntwo slots=4\n")
    with pytest.raises(orlop.UnsupportedError, match="on 8 ranks"):
        runner.main([f"--hostfile={hostfile}", "--num_nodes=2", script(tmp_path, "open('started', 'w')")])
    assert not Path("started").exists()
    with pytest.raises(FileNotFoundError, match="--hostfile"):
        runner.main(["--hostfile=none", "train.py"])


# ---- The ranks of one machine ----


def test_each_rank_is_told_which_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    info = launch.encode_world_info({"one": [0, 1], "two": [1, 3]})
    arguments = [f"--world_info={info}", "--node_rank=1", "--master_addr=one", "--master_port=77"]
    assert launch.run(launch.parse_args([*arguments, script(tmp_path, SAY)])) == 0
    ranks = said(capfd)
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"], rank["LOCAL_SIZE"]) for rank in ranks] == [
        ("2", "0", "4", "2"),
        ("3", "1", "4", "2"),
    ]
    assert all(rank["MASTER_ADDR"] == "one" and rank["MASTER_PORT"] == "77" for rank in ranks)
    assert [rank["arguments"] for rank in ranks] == [["--local_rank=0"], ["--local_rank=1"]]


def test_when_one_rank_fails_the_others_are_ended(tmp_path: Path) -> None:
    fails = "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(3)\ntime.sleep(600)\n"
    assert launched(3, script(tmp_path, fails)) == 3


def test_a_rank_that_does_not_end_when_asked_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepspeed.launcher._processes.GRACE_SECONDS", 0.3)
    ready = tmp_path / "ready"
    stubborn = (
        "import os, signal, time\n"
        "if os.environ['RANK'] == '0':\n"
        f"    while not os.path.exists({str(ready)!r}): time.sleep(0.01)\n    raise SystemExit(4)\n"
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(ready)!r}, 'w')\ntime.sleep(600)\n"
    )
    assert launched(2, script(tmp_path, stubborn)) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on_and_ranks_end_in_their_own_time(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepspeed.launcher._processes._is_in_foreground", lambda: False)
    monkeypatch.setattr("deepspeed.launcher._processes.GRACE_SECONDS", 0.0)
    saves = (
        "import os, signal, time\nrank = os.environ['RANK']\n"
        "def save(number, frame):\n"
        "    time.sleep(0.4 * int(rank))\n"
        f"    open(os.path.join({str(tmp_path)!r}, 'saved' + rank), 'w').close()\n"
        "    raise SystemExit(5)\n"
        f"signal.signal({int(number)}, save)\n"
        f"open(os.path.join({str(tmp_path)!r}, 'ready' + rank), 'w').close()\n"
        "time.sleep(600)\n"
    )

    def when_ready() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=when_ready).start()
    assert launched(2, script(tmp_path, saves)) == 5
    assert len(list(tmp_path.glob("saved*"))) == 2
    assert signal.getsignal(number) is before


# A terminal of its own: what is read from the standard input is typed on it.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_ctrl_c_at_a_terminal_comes_once(tmp_path: Path) -> None:
    counts = (
        "import signal, time\ntimes = []\nsignal.signal(signal.SIGINT, lambda *_: times.append(1))\n"
        "print('ready', flush=True)\n"
        "while not times: time.sleep(0.01)\n"
        "time.sleep(0.5)\nprint('times', len(times), flush=True)\nraise SystemExit(6)\n"
    )
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=1", script(tmp_path, counts)]
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\r\n"
        process.stdin.write(b"\x03")
        process.stdin.flush()
        assert b"times 1\r\n" in process.stdout.read()
        assert process.wait(60) == 6


def test_cores_are_shared_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    assert cores_of(1, 2, "0,2-4,6-8") == [4, 6, 7] and cores_of(0, 2, "0,2-4,6-8") == [0, 2, 3]
    core = min(before)
    assert launched(1, "--bind_cores_to_rank", f"--bind_core_list={core}", script(tmp_path, SAY)) == 0
    (rank,) = said(capfd)
    assert (rank["cores"], rank["OMP_NUM_THREADS"]) == ([core], "1")
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ValueError, match="each needs one"):
        cores_of(0, 3, "0-1")


def test_each_rank_can_have_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    assert launched(2, f"--enable_each_rank_log={folder}", "--save_pid", script(tmp_path, SAY)) == 0
    assert capfd.readouterr().out == ""
    for rank in range(2):
        assert json.loads((folder / f"rank{rank}.log").read_text())["RANK"] == str(rank)


# ---- Several machines ----


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH, for programs that stand for others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys\n{text}")
    (folder / name).chmod(0o755)


# What pdsh does for the machines behind -w, in order and on this one: %n is a machine's number, %% a percent sign.
PDSH = """
hosts, line = sys.argv[sys.argv.index("-w") + 1].split(","), sys.argv[-1]
assert sys.argv[1] == "-S" and os.environ["PDSH_RCMD_TYPE"] == "ssh"
status = 0
for number, host in enumerate(hosts):
    mine = line.replace("%n", str(number)).replace("%%", "%")
    status = max(status, subprocess.run(["sh", "-c", mine], cwd="/", env={"PATH": os.environ["PATH"]}).returncode)
sys.exit(status)
"""
SSH = """
assert sys.argv[1:4] == ["-tt", "-p", "2222"] and sys.argv[4] == "-v"
sys.exit(subprocess.run(["sh", "-c", sys.argv[-1]], cwd="/", env={"PATH": os.environ["PATH"]}).returncode)
"""


def hostfile(tmp_path: Path) -> str:
    file = tmp_path / "hostfile"
    file.write_text("one slots=2\ntwo slots=2\n")
    return f"--hostfile={file}"


@pytest.mark.parametrize("launcher", ["pdsh", "ssh"])
def test_ranks_are_started_on_several_machines(
    tmp_path: Path, commands: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    monkeypatch.setattr(_ranks, "MOST", 8)  # what will be, when an engine has several
    stand_in(commands, "pdsh", PDSH)
    stand_in(commands, "ssh", SSH)
    (tmp_path / ".deepspeed_env").write_text("# ours\nGIVEN=50% of it\n")
    monkeypatch.chdir(tmp_path)
    options = ["--ssh_port=2222", "--launcher_args=-v"] if launcher == "ssh" else []
    runner.main([hostfile(tmp_path), f"--launcher={launcher}", *options, "--num_gpus=1", script(tmp_path, SAY), "a b"])
    ranks = said(capfd)
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in ranks] == [
        ("0", "0", "2"),
        ("1", "0", "2"),
    ]
    for rank in ranks:
        assert (rank["MASTER_ADDR"], rank["MASTER_PORT"], rank["GIVEN"]) == ("one", "29500", "50% of it")
        assert rank["arguments"] == ["--local_rank=0", "a b"] and rank["folder"] == str(tmp_path)


def test_a_status_from_another_machine_is_the_commands(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ranks, "MOST", 8)
    stand_in(commands, "pdsh", "sys.exit(9)")
    assert status_of(lambda: runner.main([hostfile(tmp_path), "train.py"])) == 9
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="--launcher pdsh: it is not on PATH"):
        runner.main([hostfile(tmp_path), "train.py"])


def test_each_machine_can_be_started_by_other_means(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ranks, "MOST", 8)
    runner.main([hostfile(tmp_path), "--no_ssh", "--node_rank=1", "--master_addr=one", script(tmp_path, SAY)])
    ranks = said(capfd)
    assert [rank["RANK"] for rank in ranks] == ["2", "3"]
    assert {str(rank["MASTER_PORT"]) for rank in ranks} == {"29500"}


def test_the_environment_that_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "NCCL_DEBUG": "INFO",
        "PYTHONPATH": "/overlay",
        "ORLOP_CPU": "avx2",
        "DS_ACCELERATOR": "cpu",
        "HOME": "/root",
    }
    assert multinode_runner.exported(given) == {name: value for name, value in given.items() if name != "HOME"}
    assert isinstance(runner.DEEPSPEED_ENVIRONMENT_NAME, str)
