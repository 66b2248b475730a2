"""Orlop beside what else people train with: DeepSpeed, torch's AdamW in memory, and states in mapped files.

`./dev bench peers` runs it. This side needs only Python's own library; torch and DeepSpeed are imported by worker
processes alone, one per system, which take commands on a pipe so that their steps can be interleaved.
"""
