"""Narrow instruments that drive the production code and hand out what it computed, as arrays."""
