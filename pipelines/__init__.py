"""What a user runs: train, search, evaluate, sample, ui, and the command line."""
