"""Ours beside what else a person could take, on the same images, the same cores and for the same seconds."""
