"""A5 on a run itself: made-up users woven into a disclosed audit run, and guessed afterwards."""
