"""What a search shows in words: the live table, and the tables at its end."""
