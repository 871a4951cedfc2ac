"""What a run's logged numbers warn of."""
