"""What is fuzzed: a module for each, whose first line is its invariant, with `one(data)`."""
