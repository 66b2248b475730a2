"""The `dev` script: it parses, explains itself, refuses what it does not know, and says what it cannot do."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEV = ROOT / "dev"
SOURCED = [ROOT / "tests/dev/everything.sh", ROOT / "python/make_wheel.sh", ROOT / "bench/peers/run.sh"]
SCRIPTS = [DEV, ROOT / ".ci/run", *SOURCED]


def dev(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEV, *arguments], text=True, capture_output=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    done = subprocess.run(["shellcheck", "-x", script], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS[:2], ids=lambda script: script.name)
def test_scripts_can_be_executed(script: Path) -> None:
    assert os.access(script, os.X_OK)


def test_dev_is_short_enough_to_be_read() -> None:
    assert len(DEV.read_text().splitlines()) < 160


def test_help_names_every_command() -> None:
    said = dev("help")
    assert said.returncode == 0
    assert said.stderr == ""
    commands = re.findall(r"^  (\w+) ?[|)]", DEV.read_text(), re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        assert re.search(rf"^  {command} ", said.stdout, re.MULTILINE), command


def test_help_is_what_comes_without_a_command() -> None:
    assert dev().stdout == dev("--help").stdout == dev("help").stdout


def test_an_unknown_command_is_refused_with_a_sentence() -> None:
    said = dev("biuld")
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr == "dev: there is no command 'biuld'; ./dev help lists them\n"


def fake_tools(folder: Path, tools: dict[str, str]) -> str:
    """A PATH with nothing but the basics and these shell scripts."""
    for name in ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sed"):
        found = next(Path(place, name) for place in ("/bin", "/usr/bin") if Path(place, name).exists())
        (folder / name).symlink_to(found)
    for name, text in tools.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_a_system_without_apt_is_sent_to_the_install_page(tmp_path: Path) -> None:
    said = dev("build", PATH=fake_tools(tmp_path, {}))
    assert said.returncode == 1
    assert said.stderr == ("dev: this system has no apt: install what docs/install.md lists, then use meson and pip as it "
                           "shows\n")


def test_a_failed_install_is_shown_and_ends_it(tmp_path: Path) -> None:
    tools = {"dpkg-query": "", "apt-get": "echo no such package here; exit 100", "sudo": 'exec "$@"'}
    said = dev("build", PATH=fake_tools(tmp_path, tools))
    assert said.returncode != 0
    assert "dev: installing g++ meson ninja-build" in said.stderr
    assert "no such package here\ndev: apt-get update failed (exit status 100)" in said.stderr


def test_only_what_is_missing_is_installed(tmp_path: Path) -> None:
    installed = 'while (( $# )); do case $1 in -*|\'${\'*) ;; meson) ;; *) echo "installed $1";; esac; shift; done'
    tools = {"dpkg-query": installed, "apt-get": "exit 100", "sudo": 'exec "$@"'}
    said = dev("build", PATH=fake_tools(tmp_path, tools))
    assert "dev: installing meson\n" in said.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="setpriv is not there")
def test_without_root_or_sudo_it_says_what_to_install(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    path = fake_tools(tmp_path, {"dpkg-query": "", "apt-get": ""})
    drop = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, "/bin/bash", "-s", "build"], text=True, capture_output=True, env={"PATH": path},
                          input=DEV.read_text(), cwd="/")
    assert done.returncode == 1
    assert "neither root nor sudo is there to install them: apt-get install g++ meson" in done.stderr
