"""Text generation: the engine, decoding strategies and text streams."""
