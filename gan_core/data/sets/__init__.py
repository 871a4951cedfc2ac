"""Data sets by name: those that need no files of the user, torchvision's, and images that are stacked as channels."""
