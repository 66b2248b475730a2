"""What ZeRO consists of, under DeepSpeed's module paths."""
