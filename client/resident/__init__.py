"""The resident site agent: a process of the operator's own, reached over a Unix socket."""
