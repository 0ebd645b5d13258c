"""Sweeps: many runs of one scenario, over values of keys and over seeds."""
