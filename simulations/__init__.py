"""The researcher's bench: data sets, partitions, engines, baselines, reports."""
