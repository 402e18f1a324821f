"""What the blocks of a protocol are made of: their base, errors with our own words, paths beside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError


class Model(BaseModel):
    """A block of a protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False)


def problem(message: str) -> PydanticCustomError:
    """Error of a value, with a message of our own; braces need no escape."""
    return PydanticCustomError("protocol", "{message}", {"message": message})


def problem_at(loc: tuple[str | int, ...], message: str, value: Any) -> ValidationError:
    """Error of a value within a block."""
    details = InitErrorDetails(type=problem(message), loc=loc, input=value)
    return ValidationError.from_exception_data("Protocol", [details])


def resolve(path: str, info: ValidationInfo) -> str:
    """Return a path that is relative to the protocol's file as one that can be opened."""
    base = (info.context or {}).get("base")
    return str(Path(base, path)) if base is not None else path


RelativePath = Annotated[str, Field(min_length=1), AfterValidator(resolve)]


def short_form(core_schema: Any, handler: GetJsonSchemaHandler, short: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a block that can also be written in a short form."""
    return {"anyOf": [short, handler(core_schema)]}


class AnalysisSpec(Model):
    """One analysis with its options."""

    name: ClassVar[str]

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow the bare name of the analysis."""
        return short_form(core_schema, handler, {"const": cls.name})

    @property
    def options(self) -> Model:
        """Options of the analysis."""
        found: Model = getattr(self, self.name)
        return found
