"""The activity that makes pictures of the files that were sent for a listing."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from temporalio import activity

from activities.beating import heartbeats
from adapters import contents, pictures, uploads
from adapters.contents import FileContent
from adapters.objects import Objects
from adapters.pictures import OF_THE_MACHINE, PictureRefused, Pictures
from adapters.postgres import Database
from adapters.uploads import Upload
from domain.image_commands import ImageMade
from domain.images import ImageFormat, ImageRefusal, ImageVariant, Picture
from domain.model import Fact

_GONE = ImageRefusal(code="file-gone", detail="The file was not kept long enough. Send it again.")


class MakePicture(Fact):
    """The input of the step: an image of a listing, and the upload that it is made of."""

    tenant_id: str
    property_id: UUID
    image_id: UUID
    upload_id: UUID


class Images:
    """Makes pictures, once for the same bytes; of equal files that are sent at the same moment, the last stays."""

    def __init__(self, database: Database, objects: Objects, maker: Pictures) -> None:
        self._database = database
        self._objects = objects
        self._maker = maker

    @activity.defn
    async def make_picture(self, making: MakePicture) -> ImageMade:
        """Make and store the variants of a picture, and find out why there are none.

        Raises DatabaseUnavailable or ObjectsUnavailable.
        """
        async with heartbeats("reading the file", str(making.image_id)) as step:
            async with self._database.statements(making.tenant_id) as connection:
                upload = await uploads.claim(connection, making.upload_id)
            if upload is None:
                return ImageMade(refused=_GONE)
            if upload.sha256 and (made := await self._made_before(upload, upload.sha256)):
                return made
            with tempfile.TemporaryDirectory(prefix="picture-") as folder:
                return await self._make(upload, Path(folder), step)

    async def _made_before(self, upload: Upload, sha256: bytes) -> ImageMade | None:
        """What was made of the same bytes, for this image or another."""
        async with self._database.statements(upload.tenant_id) as connection:
            content = await contents.claim(connection, upload.tenant_id, sha256, upload.size)
        return _outcome(content)

    async def _make(self, upload: Upload, folder: Path, step: Callable[[str], None]) -> ImageMade:
        source, made = folder / "original", folder / "made"
        made.mkdir()
        if not await self._objects.download(upload.key, source):
            return ImageMade(refused=_GONE)
        # Not that of the upload: what is stored below a hash has it, whatever has happened to the object.
        sha256 = await asyncio.to_thread(contents.hash_of, source)
        async with self._database.statements(upload.tenant_id) as connection:
            # The content is kept as long as an upload with its hash.
            await uploads.record_hash(connection, upload.upload_id, sha256)
            content = await contents.claim(connection, upload.tenant_id, sha256, source.stat().st_size)
        if outcome := _outcome(content):
            return outcome
        try:
            picture = await self._maker.make(source, made, step)
        except PictureRefused as refused:
            # What a busy machine may have caused is not held against the same bytes for ever.
            if refused.code not in OF_THE_MACHINE:
                async with self._database.statements(upload.tenant_id) as connection:
                    await contents.record_refused(connection, content, refused.code, refused.detail)
            return ImageMade(refused=ImageRefusal(code=refused.code, detail=refused.detail))
        step("storing the files")
        await self._store(content, source, picture)
        return await self._record(content, picture)

    async def _store(self, content: FileContent, source: Path, picture: pictures.Picture) -> None:
        files = [(content.original_key, source, picture.media_type)]
        files += [(content.variant_key(each.path.name), each.path, each.media_type) for each in picture.variants]
        for key, path, media_type in files:
            with path.open("rb") as file:
                await self._objects.put(key, file, media_type)

    async def _record(self, content: FileContent, picture: pictures.Picture) -> ImageMade:
        made = Picture(
            key=content.sha256.hex(),
            width=picture.width,
            height=picture.height,
            thumbhash=picture.thumbhash,
            perceptual_hash=picture.perceptual_hash,
            variants=tuple(
                ImageVariant(
                    width=each.width,
                    height=each.height,
                    format=ImageFormat(each.media_type.removeprefix("image/")),
                    bytes=each.size,
                )
                for each in picture.variants
            ),
        )
        async with self._database.statements(content.tenant_id) as connection:
            recorded = await contents.record_made(
                connection, content, picture.media_type, made.model_dump(mode="json", by_alias=True)
            )
        if not recorded:
            raise contents.ContentSwept()
        return ImageMade(picture=made)


def _outcome(content: FileContent) -> ImageMade | None:
    """What is known of content; None if its picture is still to be made."""
    if content.made:
        return ImageMade(picture=Picture.model_validate(content.made))
    return ImageMade(refused=ImageRefusal.model_validate(content.refused)) if content.refused else None
