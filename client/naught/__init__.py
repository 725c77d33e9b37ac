"""naught: counters that are gone at zero."""
