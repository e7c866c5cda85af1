"""What parts of a method, or settings, are worth."""
