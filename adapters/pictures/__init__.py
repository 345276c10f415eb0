"""What happens to the bytes of one picture: it is checked, decoded and encoded in processes of its own."""

from adapters.pictures.picture import Picture, PictureRefused, Variant
from adapters.pictures.processes import Pictures

__all__ = ["Picture", "PictureRefused", "Pictures", "Variant"]
