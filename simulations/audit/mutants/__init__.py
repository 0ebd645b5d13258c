"""Known privacy bugs as small patches, each of which a named check must see."""
