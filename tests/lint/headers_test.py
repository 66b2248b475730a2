#!/usr/bin/env python3
"""The headers of this tree compile alone, and the check would notice if they did not.

usage: headers_test.py ROOT BUILD
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import headers

ROOT, BUILD = (pathlib.Path(argument).resolve() for argument in (sys.argv.pop(1), sys.argv.pop(1)))


def compiler():
    """This build's C++ compiler."""
    flags = headers.Build(ROOT, BUILD).flags[ROOT / "src/base"]
    return flags[: next(i for i, word in enumerate(flags) if word.startswith("-"))]


def run_check(root, build):
    return subprocess.run([sys.executable, headers.__file__, root, build], capture_output=True,
                          text=True, check=False)


def run_on_tree(files, not_built=()):
    """The check's exit status and output on a tree of these files, all of src/base."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory).resolve()
        base = root / "src" / "base"
        base.mkdir(parents=True)
        for name, text in files.items():
            (base / name).write_text(text, encoding="ascii")
        command = [*compiler(), f"-I{root}/src", "-MD", "-MQ", "a.o", "-MF", "a.d", "-o", "a.o",
                   "-c"]
        entries = [{"file": str(base / name), "command": " ".join([*command, str(base / name)])}
                   for name in files if name.endswith(".cpp") and name not in not_built]
        (root / "compile_commands.json").write_text(json.dumps(entries), encoding="ascii")
        done = run_check(root, root)
        return done.returncode, done.stdout


GOOD = "#pragma once\n#include <string>\ninline std::string name() { return {}; }\n"
BAD = "#pragma once\ninline std::string name() { return {}; }\n"


class Headers(unittest.TestCase):
    def test_of_this_tree_compile_alone(self):
        done = run_check(ROOT, BUILD)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_one_that_compiles_alone_is_accepted(self):
        status, output = run_on_tree({"a.cpp": "", "a.hpp": GOOD})
        self.assertEqual(status, 0, output)
        self.assertIn("0 proven by their source, 1 compiled", output)

    def test_one_that_leans_on_others_is_named(self):
        source = '#include <string>\n#include "base/a.hpp"\n'
        status, output = run_on_tree({"a.cpp": source, "a.hpp": BAD})
        self.assertEqual(status, 1)
        self.assertIn("base/a.hpp does not compile alone", output)

    def test_one_that_its_source_includes_first_needs_no_proof(self):
        status, output = run_on_tree({"a.cpp": '#include "base/a.hpp"\n', "a.hpp": GOOD})
        self.assertEqual(status, 0, output)
        self.assertIn("1 proven by their source, 0 compiled", output)

    def test_one_whose_source_is_not_built_is_left_out_and_said(self):
        files = {"a.cpp": '#include "base/a.hpp"\n', "a.hpp": GOOD, "b.cpp": "", "b.hpp": BAD}
        status, output = run_on_tree(files, not_built=["b.cpp"])
        self.assertEqual(status, 0, output)
        self.assertIn("left out: base/b.hpp", output)


if __name__ == "__main__":
    unittest.main()
