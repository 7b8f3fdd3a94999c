"""Characters to token ids and back: training, reading and writing tokenizers, decoding streams. No torch."""
