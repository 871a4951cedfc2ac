"""Networks of images, one architecture a file."""
