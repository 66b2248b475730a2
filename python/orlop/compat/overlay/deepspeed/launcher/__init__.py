"""The `deepspeed` command: starts the ranks of a script, here or on several machines."""
