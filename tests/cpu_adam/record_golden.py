#!/usr/bin/env python3
"""Records tests/cpu_adam/golden.inc from torch.optim.AdamW and Adam (torch 2.13.0):

    python record_golden.py > golden.inc

Inputs are made from integers, exactly, the same way here and in golden_test.cpp.
"""

import torch

ELEMENTS = 32
STEPS = 10
ERROR_ELEMENTS = 4096
ERROR_STEPS = 100


def initial(i):
    return ((i * 37 + 11) % 101 - 50) / 256


def gradient(i, t):
    return ((i * 7 + t * 13 + i * t) % 41 - 20) / 1024 * 2.0 ** -(i % 5)


def make(cls, count, dtype, **options):
    param = torch.nn.Parameter(torch.tensor([initial(i) for i in range(count)], dtype=dtype))
    return param, cls([param], foreach=False, **options)


def run(cls, count, steps, dtype, **options):
    """Yields the parameter after each step, and the optimizer's state of it."""
    param, optimizer = make(cls, count, dtype, **options)
    for t in range(1, steps + 1):
        param.grad = torch.tensor([gradient(i, t) for i in range(count)], dtype=dtype)
        optimizer.step()
        yield param.detach(), optimizer.state[param]


def row(values):
    return "{" + ", ".join(float(v).hex() + "f" for v in values) + "},"


def print_table(name, rows):
    print(f"constexpr float {name}[][{ELEMENTS}] = {{")
    for values in rows:
        print("    " + row(values))
    print("};")


def record_steps(name, cls, **options):
    params = []
    for param, state in run(cls, ELEMENTS, STEPS, torch.float32, **options):
        params.append(param.clone())
        last = state
    print_table(f"k{name}Params", params)
    print_table(f"k{name}Moments", [last["exp_avg"], last["exp_avg_sq"]])


def record_error(name, cls, **options):
    """torch's own fp32 error of the accumulated update, root mean square, against float64."""
    *_, (single, _) = run(cls, ERROR_ELEMENTS, ERROR_STEPS, torch.float32, **options)
    *_, (double, _) = run(cls, ERROR_ELEMENTS, ERROR_STEPS, torch.float64, **options)
    start = torch.tensor([initial(i) for i in range(ERROR_ELEMENTS)], dtype=torch.float64)
    error = ((single.double() - double).norm() / (double - start).norm()).item()
    print(f"constexpr double k{name}TorchError = {error:.6e};")


def main():
    print("// Recorded by record_golden.py with torch", torch.__version__.split("+")[0])
    adamw = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.1)
    adam = dict(lr=1e-2, betas=(0.8, 0.99), eps=1e-5, weight_decay=0.05)
    record_steps("AdamW", torch.optim.AdamW, **adamw)
    record_steps("Adam", torch.optim.Adam, **adam)
    record_error("AdamW", torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    record_error("Adam", torch.optim.Adam, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


if __name__ == "__main__":
    main()
