"""Who is served how well, and who pays for privacy; in the lab only."""
