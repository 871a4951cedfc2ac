"""What a family may add to a game: noise, and a critic some steps ahead."""
