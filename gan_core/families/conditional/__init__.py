"""Games whose networks see labels."""
