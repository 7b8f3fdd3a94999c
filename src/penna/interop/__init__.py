"""Other tools' model formats, in and out: names and layouts, no training."""
