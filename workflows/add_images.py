"""Add images to a listing: save them, then make a picture of each file, and publish what became of it."""

import asyncio
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.images import Images, MakePicture
from activities.properties import Properties
from activities.publishing import Publishing
from domain.command import FAILED, SealedCommand
from domain.image_commands import AddImages, ImageMade, NewImage, RecordImage
from workflows import options
from workflows.command import CommandWorkflow, cause_of


@workflow.defn(name="add-images")
class AddImagesWorkflow(CommandWorkflow):
    """Each file for itself: one that becomes no picture, or whose object is unavailable, holds up no other."""

    def __init__(self) -> None:
        super().__init__()
        self._recording = asyncio.Lock()
        self._outcomes: dict[UUID, str] = {}

    @workflow.run
    async def run(self, command: SealedCommand) -> str:
        saved = await self.save(Properties.save_property, command)
        await self.publish(saved)
        if saved and saved.events:
            adding = AddImages.model_validate(command)
            self._outcomes = {image.id: f"{image.file_name}: waiting" for image in adding.images}
            await asyncio.gather(*(self._add(adding, image) for image in adding.images))
        return await self.done()

    async def _add(self, command: AddImages, image: NewImage) -> None:
        making = MakePicture(
            tenant_id=command.tenant_id,
            property_id=command.property_id,
            image_id=image.id,
            upload_id=image.upload_id,
        )
        summary = f"{image.file_name} ({options.file_size(image.size)})"
        made = await workflow.execute_activity_method(
            Images.make_picture, making, **options.named(options.MAKE_PICTURE, summary)
        )
        await self._record(command, image, made)

    async def _record(self, command: AddImages, image: NewImage, made: ImageMade) -> None:
        recording = RecordImage(
            command_id=image.record_id,
            tenant_id=command.tenant_id,
            user_id=command.user_id,
            issued_at=workflow.now(),
            property_id=command.property_id,
            image_id=image.id,
            made=made,
        )
        # One after the other, because each makes a version of the listing.
        async with self._recording:
            try:
                saved = await workflow.execute_local_activity_method(
                    Properties.save_property, recording.model_dump(mode="json", by_alias=True), **options.SAVE
                )
            except FailureError as error:
                if cause_of(error).type == FAILED:
                    raise
                return  # the account is erased
            if saved.events:
                await workflow.execute_local_activity_method(Publishing.publish, saved, **options.PUBLISH)
        became = f"refused: {made.refused.detail}" if made.refused else "ready"
        self._outcomes[image.id] = f"{image.file_name}: {became}"
        workflow.set_current_details("\n".join(f"- {outcome}" for outcome in self._outcomes.values()))
