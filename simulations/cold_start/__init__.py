"""Cold start, measured: people and items that took part in no training."""
