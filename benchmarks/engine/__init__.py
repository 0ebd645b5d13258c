"""Throughput of the engine against what a practitioner would use; see ``docs/performance.md``."""
