"""The subcommands of `naught-loadtest`, a module each: its arguments (`configure`) and what it does (`execute`)."""
