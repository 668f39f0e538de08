"""The API as a document (OpenAPI 3.1), read off the routes: whom they let in, what they take, what they answer.

Nothing is written down a second time: roles, bodies and versions come from the dependencies of `web/access.py`,
answers from the routes' models, and problems from all of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from prunella.web.access import IfMatch, Sent, calls_of, needs_of
from prunella.web.api import routing
from prunella.web.api.routing import Route
from prunella.web.api.self_heal import Posted
from prunella.web.auth import COOKIE, CSRF_HEADER, SAFE, Role
from prunella.web.inbound.door import Signed
from prunella.web.limits import bytes_max_of

_REF = "#/components/schemas/{model}"
_PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("The body is no JSON", "Expecting value at line 1, column 1"),
    401: ("A token is required", "send Authorization: Bearer <token>; get one with: prunella token"),
    403: ("Not with this role", "the role VIEWER may not do this; allowed: ADMIN"),
    404: ("Unknown incident", "there is no incident 'abc'"),
    406: ("Not in this form", "this address answers application/json"),
    409: ("Not in this state", "the incident is resolved; ack needs an open one"),
    412: ("Not the version you have seen", "it is at version 7, not 6; read it again and decide anew"),
    413: ("The body is too large", "at most 65536 bytes are taken"),
    415: ("The body must be JSON", "got text/html; send application/json"),
    422: ("The fields are not as they should be", "1 wrong; see errors"),
    429: ("Too many requests", "50 per second are taken; ask again in 1 s"),
    502: ("Your database refuses", "permission denied for table orders"),
    503: ("The database does not answer", "nothing was recorded; ask again in 5 s"),
}
_SCHEMES: Mapping[str, Mapping[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (prunella_live_…), a short-lived token (prunella token), a token of your issuer, "
        "or an ingest token.",
    },
    "internal": {"type": "apiKey", "in": "header", "name": "X-Internal-Token", "description": "An ingest token."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "What a configured sender signs its requests with; each kind has headers of its own.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"The dashboard's session; changes also want the header {CSRF_HEADER}.",
    },
}
_RETRY = {"Retry-After": {"description": "Seconds until it is worth asking again.", "schema": {"type": "string"}}}


def install(web: FastAPI) -> None:
    """Let an application describe itself by this document; it is made once, when somebody asks."""
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            made.append(document(web))
        return made[0]

    web.openapi = openapi  # type: ignore[method-assign]


def document(web: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    found = get_openapi(title=web.title, version=web.version, summary=web.summary, routes=web.routes)
    routes = [route for route in iter_route_contexts(web.routes) if getattr(route, "include_in_schema", False)]
    schemas = found["components"]["schemas"]
    for stranger in ("HTTPValidationError", "ValidationError"):
        schemas.pop(stranger, None)
    schemas |= _schemas(model for route in routes for model in _bodies(route)) | {"Problem": _PROBLEM}
    found["components"]["securitySchemes"] = {name: dict(scheme) for name, scheme in _SCHEMES.items()}
    for route in routes:
        assert route.path_format is not None
        for method in route.methods or ():
            operation = found["paths"][route.path_format].get(method.lower())
            if operation is not None:
                _complete(operation, route, method)
    return found


def operations(found: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return every operation of a document: method, path, description."""
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _complete(operation: dict[str, Any], route: RouteContext, method: str) -> None:
    """Add to an operation what its dependencies say."""
    needs, changes = needs_of(route.dependant), method not in SAFE
    calls, models = calls_of(route.dependant), _bodies(route)
    if needs is not None:
        operation["x-roles"] = sorted(needs.roles)
        operation["security"] = [{"bearer": []}]
        operation["security"] += [{"session": []}] if needs.roles & _PEOPLE else []
        operation["security"] += [{"internal": []}] if Role.INGEST in needs.roles else []
    if any(isinstance(call, Signed) for call in calls):
        operation["security"] = [{"signature": []}]
    parameters = operation.setdefault("parameters", [])
    has_input = bool(parameters)
    if changes and needs is not None and isinstance(route.original_route, Route):
        parameters.append(_header("Idempotency-Key", _KEY, 200))
    if any(isinstance(call, IfMatch) for call in calls):
        parameters.append(_header("If-Match", _IF_MATCH, 300))
    if not parameters:
        del operation["parameters"]
    if models:
        operation["requestBody"] = _request_body(models)
        operation["x-bytes-max"] = bytes_max_of(route.path or "")
    _problems(operation, route, changes=changes, has_input=has_input)
    for name, response in operation["responses"].items():
        if name.startswith("2") and any(isinstance(call, IfMatch) for call in calls):
            response.setdefault("headers", {})["ETag"] = {"description": "Its version.", "schema": {"type": "string"}}


def _problems(operation: dict[str, Any], route: RouteContext, *, changes: bool, has_input: bool) -> None:
    """Add the problems that an operation can answer."""
    responses = operation["responses"]
    own = {int(status) for status in route.responses if not route.responses[status].get("model")}
    statuses = own & set(_PROBLEMS)
    if "x-roles" in operation:
        statuses |= {401, 403, 406, 422, 429, 503}
    if {"signature": []} in operation.get("security", ()):
        statuses |= {400, 401, 413, 422, 503}
    if "{" in (route.path or "") or route.path_format in _NAMED_BY_QUERY:
        statuses.add(404)
    if changes and "x-roles" in operation:
        statuses |= {409, 413}
    if "requestBody" in operation:
        statuses |= {400, 413, 415}
    if any(one["name"] == "If-Match" for one in operation.get("parameters", ())):
        statuses.add(412)
    responses.pop("422", None)
    if has_input:
        statuses.add(422)
    for status in sorted(statuses):
        responses[str(status)] = _problem(status)


def _problem(status: int) -> dict[str, Any]:
    title, detail = _PROBLEMS[status]
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if status == 422:
        example["errors"] = [{"pointer": "/limit", "detail": "Input should be less than or equal to 500"}]
    media = {"schema": {"$ref": _REF.format(model="Problem")}, "example": example}
    headers = {"headers": _RETRY} if status in (429, 503) else {}
    return {"description": title, **headers, "content": {"application/problem+json": media}}


def _request_body(models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    schemas = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    required = any(field.is_required() for model in models for field in model.model_fields.values())
    media: dict[str, Any] = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
    examples = [example for model in models for example in _examples(model)]
    if examples:
        media["examples"] = {f"example{n}": {"value": example} for n, example in enumerate(examples, 1)}
    return {"required": required, "content": {"application/json": media}}


def _examples(model: type[BaseModel]) -> list[Any]:
    extra = model.model_config.get("json_schema_extra")
    found = extra.get("examples", []) if isinstance(extra, dict) else []
    return found if isinstance(found, list) else []


def _bodies(route: RouteContext) -> tuple[type[BaseModel], ...]:
    """Return the models that a route's body may have."""
    for call in calls_of(route.dependant):
        if isinstance(call, Sent):
            return (call.model,)
        if isinstance(call, Posted):
            return call.models
    return ()


def _schemas(models: Iterator[type[BaseModel]]) -> dict[str, Any]:
    named = {model.__name__: model for model in models}
    _, made = models_json_schema([(model, "validation") for model in named.values()], ref_template=_REF)
    definitions: dict[str, Any] = made.get("$defs", {})
    return definitions


def _header(name: str, words: str, length: int) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": length, "pattern": "^[\\x21-\\x7e]+$"}
    return {"name": name, "in": "header", "required": False, "description": words, "schema": schema}


_PEOPLE = frozenset({Role.VIEWER, Role.OPERATIONS, Role.ADMIN})
_NAMED_BY_QUERY = ("/api/v1/self-healing/stuck-orders", "/api/v1/self-healing/run-cycle")
_KEY = f"The same key with the same request is answered again, not done again ({routing.KEPT_WORDS})."
_IF_MATCH = "Change only the version with this ETag; 412 where another stands."
_PROBLEM = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
