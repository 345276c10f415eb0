"""Record activity: save a batch of observations, then publish their events."""

from collections import Counter

from temporalio import workflow

from activities.observations import Observations
from activities.publishing import Publishing
from domain.observations import RecordActivity, RecordedActivity
from workflows import options


@workflow.defn(name="record-activity")
class RecordActivityWorkflow:
    """A batch of observations that one API process has collected, of one tenant."""

    @workflow.init
    def __init__(self, batch: RecordActivity) -> None:
        self._recorded: RecordedActivity | None = None

    @workflow.update(description="Answers once the observations are saved")
    async def saved(self) -> None:
        """Returns once the observations are saved."""
        await workflow.wait_condition(lambda: self._recorded is not None)

    @workflow.run
    async def run(self, batch: RecordActivity) -> str:
        self._recorded = await workflow.execute_local_activity_method(
            Observations.save_observations, batch, **options.SAVE
        )
        await workflow.execute_local_activity_method(Publishing.publish_observations, self._recorded, **options.PUBLISH)
        await workflow.wait_condition(workflow.all_handlers_finished)
        kinds = Counter(observation.event_type for observation in batch.observations)
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        outcome = f"{len(batch.observations)} observations: {counted}"
        workflow.set_current_details(outcome)
        return outcome
