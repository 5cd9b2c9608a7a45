"""A remote shell as its user has it."""
