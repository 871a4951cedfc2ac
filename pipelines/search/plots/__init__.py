"""What a search learned, as pictures."""
