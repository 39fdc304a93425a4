"""Models of Keras 3: read from files without Keras, written for it, or run by it."""
