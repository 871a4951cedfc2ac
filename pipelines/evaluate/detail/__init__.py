"""Measures that are a table or a picture: FID by class, precision against recall, FID's reaction to disturbances."""
