"""A section that holds exactly one of several kinds, by name; any other name is a function of the user."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, ConfigDict, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic_core import CoreSchema

from prunella.core.redact import scrub_tree
from prunella.settings import values as of
from prunella.settings.addresses import FUNCTION
from prunella.settings.section import Found, Section, names_of

_SLIP: Final = 0.85
"""How like a known kind a name may be before it counts as misspelt: `orphan` does, `my_errors` does not."""


def _params(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _param(name, one, info) for name, one in value.items()}


def _param(name: str, value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if scrub_tree({name: value}) == {name: value}:
        return of.expanded(value, info)
    if "${" not in value:
        raise of.plain_secret(storable=False)
    return of.opened(value, info).reveal()


Params = Annotated[dict[str, Any], BeforeValidator(_params)]


class Choice(Section):
    """Exactly one kind; a text is a kind without anything to say about it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Params]
    beside: ClassVar[frozenset[str]] = frozenset()
    """Names that are no kind and may stand beside one."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        if isinstance(data, str) and data:
            return {data: {}}
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None or name not in cls.beside}
        return {name: {} if value is None else value for name, value in given.items()}

    @property
    def kind(self) -> str:
        """Return the name of what was chosen."""
        return next(iter(self.model_fields_set - self.beside))

    @property
    def plugin(self) -> tuple[str, dict[str, Any]] | None:
        """Return name and parameters of the user's function, None where a kind of prunella's was chosen."""
        return next(iter((self.__pydantic_extra__ or {}).items()), None)

    def misfits(self) -> Found:
        kinds = [name for name in names_of(type(self)) if name not in self.beside]
        chosen = self.model_fields_set - self.beside
        if len(chosen) != 1:
            text = f"must be exactly one; write one of {', '.join(kinds)} or the name of a function of yours"
            return [((), of.hidden(text))]
        name = next(iter(chosen))
        if name not in kinds and not FUNCTION.fullmatch(name):
            return [
                ((name, "[key]"), of.hidden(f"is no name of a function; allowed: {', '.join(kinds)}, or such a name"))
            ]
        slip = of.nearest(name, kinds, _SLIP) if name not in kinds else ""
        if slip:
            return [((name, "[key]"), of.hidden(f"unknown name{slip}; allowed: {', '.join(kinds)}"))]
        return []

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}
