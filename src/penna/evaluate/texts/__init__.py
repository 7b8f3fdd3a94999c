"""Statistics of many texts at once, as written text is compared with human text: one idea a file, no model."""
