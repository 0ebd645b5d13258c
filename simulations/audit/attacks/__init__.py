"""A6: what somebody can learn who holds what a run released."""
