"""Recomputing activations."""
