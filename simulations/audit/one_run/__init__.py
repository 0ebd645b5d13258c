"""A5: ε from below, by guessing which of many canaries were in one run."""
