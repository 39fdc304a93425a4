"""The parts of the command ``compare``: data, networks, candidates, and what it writes."""
