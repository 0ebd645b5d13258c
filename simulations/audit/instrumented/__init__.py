"""Checks on the production code itself: A2 to A5, and what the ledger says of a release."""
