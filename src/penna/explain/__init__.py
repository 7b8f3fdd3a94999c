"""What mattered: a model and a text in, a score for each of its tokens out."""
