"""The runs that tests of several commands open."""

from tests.made import made

__all__ = ["made"]
