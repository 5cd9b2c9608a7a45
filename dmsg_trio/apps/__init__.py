"""Applications on the network: each knows only a client and its streams."""
