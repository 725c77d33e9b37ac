"""The load-test harness of naught."""
