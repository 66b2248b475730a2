"""The `orlop` command: one module for each of its subcommands, or for a few that belong together."""
