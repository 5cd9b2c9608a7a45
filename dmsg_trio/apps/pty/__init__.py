"""A remote shell on any machine that has a key: the host, and the client of it."""
