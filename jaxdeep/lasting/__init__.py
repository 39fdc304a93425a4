"""What values, functions and arrays are, in words that are the same in another process."""
