"""Mixtures of experts by DeepSpeed's own layer: names alone. A model with experts of its own trains as any other."""
