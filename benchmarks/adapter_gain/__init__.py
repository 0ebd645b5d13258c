"""What the LoRA adapter adds over the frozen BERT: a study of runs, and the tables of them."""
