"""Warning signs and collapse, detected in a run's logged metrics."""
