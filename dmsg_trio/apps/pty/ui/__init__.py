"""A terminal in the browser: the page, its own protocol, and the reference's beside it."""
