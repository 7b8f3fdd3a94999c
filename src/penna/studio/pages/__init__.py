"""The pages of the studio, one module each; ``add`` registers a page."""
