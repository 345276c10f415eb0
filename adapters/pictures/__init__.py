"""What happens to the bytes of one picture: it is checked, decoded and encoded in processes of its own."""

from adapters.pictures.picture import OF_THE_MACHINE, Picture, PictureRefused, Variant
from adapters.pictures.processes import Pictures, cores

__all__ = ["OF_THE_MACHINE", "Picture", "PictureRefused", "Pictures", "Variant", "cores"]
