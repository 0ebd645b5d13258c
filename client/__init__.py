"""A site: its agent owns data, sampling, the private step, the ledger and the release."""
