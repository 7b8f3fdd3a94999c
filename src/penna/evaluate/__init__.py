"""Models and texts to numbers."""
