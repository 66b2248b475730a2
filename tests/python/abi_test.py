"""The ctypes tables of python/orlop/_abi.py against the header, read by a parser and by the C compiler."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import c_header
import pytest
from orlop import _abi, _enums, errors

HEADER = c_header.read()

SCALARS: dict[str, Any] = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "orlop_status": ctypes.c_int32,
    "orlop_ticket": ctypes.c_uint64,
    "void": None,
    "const char*": ctypes.c_char_p,
    "char*": ctypes.c_void_p,  # a buffer that is written
    "void*": ctypes.c_void_p,
    "const void*": ctypes.c_void_p,
    "orlop_engine*": ctypes.c_void_p,
    "orlop_checkpoint*": ctypes.c_void_p,
    "orlop_import*": ctypes.c_void_p,
    "orlop_host_pool*": ctypes.c_void_p,
    "orlop_file_queue*": ctypes.c_void_p,
    "orlop_progress": _abi.Progress,
    "orlop_log_callback": _abi.LogCallback,
}


def ctype_of(c_type: str) -> Any:
    """What a C type of the header is in ctypes."""
    if c_type in SCALARS:
        return SCALARS[c_type]
    if c_type == "const char*const*":
        return ctypes.POINTER(ctypes.c_char_p)
    pointee = c_type.removesuffix("*").removeprefix("const ")
    return ctypes.POINTER(_abi.STRUCTS.get(pointee) or ctype_of(pointee))


def test_the_header_was_understood() -> None:
    text = c_header.PATH.read_text()
    assert len(HEADER.functions) == text.count("ORLOP_API ") - text.count("#define ORLOP_API ")
    assert len(HEADER.structs) == len(re.findall(r"typedef struct \w+ \{", text))
    assert HEADER.constants["ORLOP_INTERNAL"] == -16 and HEADER.constants["ORLOP_PARAM_FROZEN"] == 1


def test_the_tables_are_for_this_version_of_the_header() -> None:
    assert HEADER.version == _abi.VERSION


def test_every_function_is_in_the_table_and_no_other() -> None:
    assert set(_abi.FUNCTIONS) == set(HEADER.functions)


@pytest.mark.parametrize("name", sorted(HEADER.functions))
def test_a_function_takes_and_returns_what_the_header_says(name: str) -> None:
    returned, arguments = HEADER.functions[name]
    result, table_arguments, _ = _abi.FUNCTIONS[name]
    assert result is ctype_of(returned)
    assert table_arguments == [ctype_of(argument) for argument in arguments]


def test_every_struct_is_in_the_table_and_no_other() -> None:
    assert set(_abi.STRUCTS) == set(HEADER.structs)


@pytest.mark.parametrize("name", sorted(HEADER.structs))
def test_a_struct_has_the_fields_that_the_header_says(name: str) -> None:
    expected = [(field, ctype_of(c_type)) for field, c_type in HEADER.structs[name]]
    assert list(_abi.STRUCTS[name]._fields_) == expected


def test_sizes_and_offsets_are_those_of_the_c_compiler(tmp_path: Path) -> None:
    expected = {}
    lines = []
    for name, struct in _abi.STRUCTS.items():
        expected[name] = ctypes.sizeof(struct)
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for field, *_ in struct._fields_:
            expected[f"{name}.{field}"] = getattr(struct, field).offset
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
    assert _compiled(tmp_path, lines) == expected


def test_every_constant_has_the_value_that_the_c_compiler_sees(tmp_path: Path) -> None:
    ours = {
        f"ORLOP_{name}": getattr(_enums, name)
        for name in (
            "PARAM_FROZEN",
            "PARAM_HELD",
            "UNIT_FROZEN",
            "UNIT_STORED",
            "LOAD_PARAMS_ONLY",
            "LOAD_REGISTERED_ONLY",
            "LOAD_COMMON_ONLY",
            "SAVE_TRAINED_ONLY",
            "RECLAIM_DRY_RUN",
            "HOST_POOL_LOCKED",
        )
    }
    for prefix, enumeration in (
        ("ORLOP_", _enums.Status),
        ("ORLOP_LOG_", _enums.LogLevel),
        ("ORLOP_DEVICE_", _enums.DeviceKind),
        ("ORLOP_", _enums.DType),
        ("ORLOP_PLANE_", _enums.Plane),
        ("ORLOP_OPTIMIZER_", _enums.OptimizerKind),
        ("ORLOP_BOUNDARY_", _enums.Boundary),
        ("ORLOP_USE_", _enums.Use),
    ):
        ours |= {prefix + member.name: int(member) for member in enumeration}
    assert ours == HEADER.constants
    assert _compiled(tmp_path, [f'printf("{name} %d\\n", (int){name});' for name in ours]) == ours


def _compiled(folder: Path, lines: list[str]) -> dict[str, int]:
    """What a C program that includes the header prints."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    source = folder / "program.c"
    body = "\n".join(lines)
    source.write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n#include <orlop/orlop.h>\nint main(void) {{\n{body}\n}}\n"
    )
    program = folder / "program"
    subprocess.run([compiler, "-I", c_header.PATH.parents[1], "-o", program, source], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in map(str.split, printed.splitlines())}


@pytest.mark.parametrize("status", [status for status in _enums.Status if status != _enums.Status.OK])
def test_every_status_has_its_own_exception_with_the_sentence(status: _enums.Status) -> None:
    error = errors.error_of(status, "what: on what: why")
    assert error.status == status and str(error) == "what: on what: why"
    assert type(error) is not errors.OrlopError
    assert _abi.library.status_name(status) == f"ORLOP_{status.name}".encode()


def test_a_status_of_a_later_version_is_an_internal_error() -> None:
    assert type(errors.error_of(-999, "sentence")) is errors.InternalError


def test_a_full_disk_is_an_os_error_with_its_number() -> None:
    error = errors.error_of(_enums.Status.NO_SPACE, "sentence")
    assert isinstance(error, OSError) and error.errno == 28


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORLOP_LIBRARY", "/nowhere/liborlop.so")
    with pytest.raises(ImportError, match="/nowhere/liborlop.so: ORLOP_LIBRARY names it, but there is no such file"):
        _abi.find_library()


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    path = _library_of_version(tmp_path, 0, 2, 0)
    with pytest.raises(errors.LibraryError, match=r"version 0\.2\.0\): this Python package needs 0\.1\.0"):
        _abi.Library(path)


def test_a_library_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = _shared_library(tmp_path, "int nothing(void) { return 0; }")
    with pytest.raises(errors.LibraryError, match="this is not Orlop's library"):
        _abi.Library(path)


def _library_of_version(folder: Path, major: int, minor: int, patch: int) -> str:
    number = major << 16 | minor << 8 | patch
    return _shared_library(folder, f"unsigned orlop_version(void) {{ return {number}u; }}")


def _shared_library(folder: Path, text: str) -> str:
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    source, library = folder / "library.c", folder / "library.so"
    source.write_text(text)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)
