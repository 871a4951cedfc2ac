"""Games between a critic and a generator that see no labels."""
