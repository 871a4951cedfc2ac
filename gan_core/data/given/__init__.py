"""Images that Python has: tensors, arrays, torch's and Hugging Face's datasets, and the functions that make them.

Nothing here imports torch or NumPy before images are looked at."""
