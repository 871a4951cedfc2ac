"""Pictures of what a search has learned."""
