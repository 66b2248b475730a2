"""DeepSpeed's names over Orlop: an overlay of a package `deepspeed`, put before others on the path when asked to."""
