"""The temporary files of one API process, into which files are received before they are stored."""


class Spool:
    """Counts the bytes of the temporary files, so that they do not fill the disk."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, size: int, most: int) -> bool:
        """Count `size` more bytes, if no more than `most` are taken then."""
        if self._taken + size > most:
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        """Count bytes no more whose file is deleted."""
        self._taken -= size
