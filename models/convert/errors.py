"""The one error of a conversion that a user or a file can cause."""

__all__ = ["ConvertError"]


class ConvertError(ValueError):
    """A checkpoint can't be read, does not fit, or does not come out as the contract wants it."""
