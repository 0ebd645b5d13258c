"""Searches: settings of a scenario compared on validation, so that test is looked at once."""
