"""What variety of lists costs in accuracy, measured on a finished run."""
