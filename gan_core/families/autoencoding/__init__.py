"""Families that map images back: autoencoders, and games with one."""
