#!/usr/bin/env python3
"""The layers of this tree are as drawn, and the check would notice if they were not.

usage: layers_test.py ROOT
"""
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import unittest

import layers

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()

ALLOWED = [
    ("src/base/a.cpp", '#include "orlop/orlop.h"'),
    ("src/numa/a.hpp", "#include <hwloc.h>"),
    ("src/swap/a.cpp", '#include "aio/queue.hpp"'),
    ("src/capi/a.cpp", '#include "zero3/engine.hpp"'),
    ("src/device/a.cpp", "#include <cuda_runtime_api.h>"),
    ("kernels/a.cu", '#include "kernels/update_element.hpp"'),
    ("bench/a.cpp", '#include "zero3/engine.hpp"'),
    ("src/base/comment.cpp", '// as #include "zero3/engine.hpp" would'),
]
FORBIDDEN = [
    ("src/base/a.cpp", '#include "numa/arena.hpp"'),
    ("src/numa/a.hpp", '#include "aio/queue.hpp"'),
    ("src/aio/a.cpp", '#include "swap/store.hpp"'),
    ("src/swap/a.cpp", '#include "cpu_adam/adam.hpp"'),
    ("src/swap/a.cpp", '#  include   "zero3/engine.hpp"'),
    ("src/cpu_adam/a.cpp", '#include "aio/queue.hpp"'),
    ("src/comm/a.cpp", '#include "numa/topology.hpp"'),
    ("src/device/a.cpp", '#include "numa/topology.hpp"'),
    ("src/zero3/a.cpp", '#include "capi/boundary.hpp"'),
    ("kernels/a.cu", '#include "device/device.hpp"'),
    ("bench/a.cpp", '#include "capi/boundary.hpp"'),
    ("src/numa/a.cpp", '#include "arena.hpp"'),
    ("src/swap/a.cpp", '#include "../zero3/engine.hpp"'),
    ("src/aio/a.cpp", "#include <hwloc/bitmap.h>"),
    ("src/swap/a.cpp", "#include <liburing.h>"),
    ("src/zero3/a.cpp", "#include <cuda_runtime.h>"),
    ("src/zero3/a.cpp", '#include "gpu/stream.hpp"'),
    ("src/attic/a.cpp", ""),
]


@contextlib.contextmanager
def tree_with(file, line):
    """A tree with one file that has one include, in line 2."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / "src").mkdir()
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{line}\n", encoding="ascii")
        yield root


class Layers(unittest.TestCase):
    def test_of_this_tree_are_as_drawn(self):
        offences = layers.complaints(ROOT)
        self.assertFalse(offences, "\n" + "\n".join(offences))

    def test_of_this_tree_are_all_there(self):
        found = {layer for layer, _ in layers.folders(ROOT)}
        self.assertLessEqual(set(layers.MAY_INCLUDE), found)

    def test_no_layer_reaches_itself_through_others(self):
        for start in layers.MAY_INCLUDE:
            reached, todo = set(), set(layers.MAY_INCLUDE[start])
            while todo:
                layer = todo.pop()
                reached.add(layer)
                todo |= layers.MAY_INCLUDE[layer] - reached
            self.assertNotIn(start, reached)

    def test_an_include_along_an_arrow_is_accepted(self):
        for file, line in ALLOWED:
            with self.subTest(file=file, line=line), tree_with(file, line) as root:
                self.assertEqual(layers.complaints(root), [])

    def test_an_include_against_an_arrow_is_named(self):
        for file, line in FORBIDDEN:
            with self.subTest(file=file, line=line), tree_with(file, line) as root:
                named = f"{file}:2: {line}: " if line else str(pathlib.Path(file).parent)
                said = layers.complaints(root)
                self.assertEqual([words.startswith(named) for words in said], [True])

    def test_the_command_prints_offences_and_exits_1(self):
        for (file, line), status in ((ALLOWED[1], 0), (FORBIDDEN[0], 1)):
            with self.subTest(file=file), tree_with(file, line) as root:
                done = subprocess.run([sys.executable, layers.__file__, root],
                                      capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, line in done.stdout), (status, status == 1))


if __name__ == "__main__":
    unittest.main()
