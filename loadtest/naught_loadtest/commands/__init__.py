"""The subcommands of `naught-loadtest`, one module each.

Each module has `configure`, which adds its arguments to a parser, and `execute`, which runs it and returns the exit
status. Its docstring is the description that `--help` prints.
"""
