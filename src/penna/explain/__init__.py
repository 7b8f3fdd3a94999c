"""Explanations of a model's predictions: attributions, attention maps, lenses and head statistics."""
