"""What a search tries: the domain of every searchable field, samplers and schedulers by name."""
