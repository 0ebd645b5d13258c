"""The recommendation service of a site under load."""
