"""The audit of a run: attempts to refute its privacy claim, and what came of each."""
