"""The results and the companion chapters, one module each: what the book measures, not what a user needs."""
