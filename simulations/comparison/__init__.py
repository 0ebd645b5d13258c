"""Comparing runs: what each user got from each, paired differences, table and plots."""
