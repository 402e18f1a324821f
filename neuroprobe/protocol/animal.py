"""The schema of protocols of recordings that are made: of animals, or of networks in an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, PrivateAttr, ValidationInfo, model_validator

from neuroprobe.errors import shown
from neuroprobe.protocol.analyses import AnyAnalysis
from neuroprobe.protocol.model import Model, RelativePath, problem, problem_at, resolve, short_form
from neuroprobe.protocol.places import Places
from neuroprobe.protocol.schema import MAX_SEED, Protocol

TABLES: Final = (".csv", ".tsv", ".parquet")  # of files that hold a table of presentations
OTHER_FILES: Final = ("trials", "stimuli", "responses", "unit_table")  # keys that may be paths, beside `path`
Window = Annotated[list[float], Field(min_length=2, max_length=2)]
Words = Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
# keys of networks' protocols that mean nothing here → why
MEANINGLESS: Final = {
    "stimuli": "the stimuli were shown when the recording was made, and stand in its presentation table",
    "treatment": "nothing is altered any more; name columns that were varied by `subject: {recording: {factors: …}}`",
    "control": "nothing is shown any more; blank trials are named by `{responsiveness: {blank: …}}`",
    "design": "the presentations are those of the recording",
    "record": "the responses are recorded; what is read of them is said by `subject: {recording: …}`",
    "reference": "its settings are of networks",
}
OF_NETWORKS: Final = ("network", "weights", "layers", "preprocess", "random_twin", "segment", "lesion")


class RecordingSpec(Model):
    """A recording, and what is read of it; other keys are options of its format's reader.

    Attributes
    ----------
    path : str
        Of the file or folder; or of what ``neuroprobe ingest``, or a run with ``record: {store: responses}``, wrote.
    trials : str or mapping, optional
        Table of presentations: its name in the file, a table of its own (CSV, TSV, Parquet), or its columns.
    window, baseline : list of float, optional
        s after the start of a presentation, [start, stop); or ``interval``, each presentation's own.
    factors : list of str, optional
        Columns that the experimenter varied.
    units, region : list of str, optional
        Those that are wanted, ``*`` for any characters.
    bins : float or list of float, optional
        Width of bins of time in s, or their edges.
    measure : str, optional
        ``count`` or ``rate``.
    format : str, optional
        Name of the reader.
    stimuli : str, optional
        Folder that ``neuroprobe stimuli`` wrote, of the stimuli that were shown.
    """

    model_config = ConfigDict(extra="allow")

    path: RelativePath
    trials: Annotated[str, Field(min_length=1)] | dict[str, Any] | None = None
    window: Literal["interval"] | Window | None = None
    baseline: Window | None = None
    factors: Words | None = None
    units: Words | None = None
    region: Words | None = None
    bins: float | list[float] | None = None
    measure: Literal["count", "rate"] | None = None
    format: Annotated[str, Field(min_length=1)] | None = None
    stimuli: Annotated[str, Field(min_length=1)] | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a bare path."""
        return short_form(core_schema, handler, {"type": "string"})

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return {"path": value}
        if isinstance(value, RecordingSpec):
            return value
        if not isinstance(value, dict):
            raise problem(f"recording: given {shown(value)}, expected a path, or {{path: …, trials: …, window: …}}")
        # a table of presentations may be in the recording itself
        return value | {
            key: resolve(given, info)
            for key in OTHER_FILES
            if isinstance(given := value.get(key), str) and (key != "trials" or Path(given).suffix.lower() in TABLES)
        }

    @property
    def choices(self) -> dict[str, Any]:
        """What is said of the recording beside its path."""
        return {key: value for key, value in self.model_dump(exclude={"path"}).items() if value is not None}


class AnimalSpec(Model):
    """The subject of a recording that is made."""

    recording: RecordingSpec


class AnimalProtocol(Model):
    """A protocol of a recording that is made, version 1: what is read, and what is asked of it."""

    neuroprobe: Literal[1]
    title: str = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    subject: AnimalSpec
    analyses: Annotated[list[AnyAnalysis], Field(min_length=1)]
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where in its file each part stands."""
        return self._places

    def at(self, places: Places) -> Self:
        """Note where in its file each part stands."""
        self._places = places
        return self

    @model_validator(mode="before")
    @classmethod
    def _only_what_means_something(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key, why in MEANINGLESS.items():
            if key in value:
                raise problem_at((key,), f"{key} means nothing with a recording as subject: {why}; leave it out", key)
        subject = value.get("subject")
        for key in OF_NETWORKS:
            if isinstance(subject, dict) and key in subject:
                message = f"{key} is of networks, and the subject is a recording: keep one of `{key}` and `recording`"
                raise problem_at(("subject", key), message, key)
        return value

    @model_validator(mode="after")
    def _once(self) -> Self:
        listed = [analysis.name for analysis in self.analyses]
        for number, name in enumerate(listed):
            if name in listed[:number]:
                raise problem_at(("analyses", number), f"analyses: {name} is listed twice; list it once", name)
        return self


AnyProtocol = Protocol | AnimalProtocol


def is_of_recording(value: Any) -> bool:
    """Whether a protocol, as it is written, is of a recording that is made."""
    subject = value.get("subject") if isinstance(value, dict) else None
    return isinstance(subject, dict) and "recording" in subject
