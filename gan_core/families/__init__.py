"""The families, one per file. The file's name is the family's name."""
