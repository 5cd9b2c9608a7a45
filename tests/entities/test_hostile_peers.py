"""Where tests of links find `client_of`; the tests of hostile servers have modules of their own."""

from tests.entities.mallory import client_of as client_of
