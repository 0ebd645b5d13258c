"""The coordinator: rounds, aggregation and the run's records."""
