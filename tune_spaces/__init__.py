"""What a search tries and how: the domain of every searchable field, samplers and schedulers."""
