"""What one would write instead: each a program of its own that reads the same events and writes the same facts."""
