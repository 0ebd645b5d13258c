"""What a warm start from another run gains, after one, two and four rounds."""
