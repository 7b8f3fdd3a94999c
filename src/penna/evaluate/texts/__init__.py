"""Statistics of sets of texts, which compare generated text with human text. No model is needed."""
