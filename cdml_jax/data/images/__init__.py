"""From encoded bytes to the square of pixels that a network sees."""
