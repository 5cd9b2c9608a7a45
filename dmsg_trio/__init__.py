"""Encrypted streams by public key through relay servers, on Trio."""
