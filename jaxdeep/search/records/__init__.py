"""What is kept of a sweep on the disk, and how it is known again."""
