"""Optimizers of models in 16 bits, under DeepSpeed's module paths."""
