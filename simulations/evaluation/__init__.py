"""Exact evaluation in the lab: ranking, intervals, comparisons."""
