"""The engine and what belongs to it, under DeepSpeed's module paths."""
