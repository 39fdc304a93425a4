"""The table of a sweep: its rows, frames, files, and pictures."""
