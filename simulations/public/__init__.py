"""Readers of public data sets' own file formats, and generators of small samples in them."""
