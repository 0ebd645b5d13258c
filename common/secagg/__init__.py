"""Secure aggregation: what sites and server share (fields, keys, shares, messages, plans)."""
