"""The host: shells on this machine for the keys that may enter."""
