"""The document says what every route takes and answers, and every answer is one that it names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse

from prunella.web.access import Reads
from prunella.web.openapi import document, operations
from web.conftest import Web
from web.documented import Documented
from web.fuzzing import fuzz, target
from web.market import Market

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Market]:
    """A prunella with something of everything."""
    async with target(tmp_path) as wired:
        yield wired


@pytest.mark.slow
async def test_every_answer_to_anybody_is_documented(full: Market) -> None:
    """Whatever schemathesis draws for every route and role: no fault of our own, no answer the document lacks."""
    found = await fuzz(full, cases=300, chance=7)
    print(found)
    assert found.troubles == []
    assert found.cases >= 300
    assert {200, 201, 400, 401, 403, 404, 409, 422} <= set(found.statuses)


async def test_planted_faults_are_found(full: Market) -> None:
    """A route that stumbles, one that answers more than it says, one that answers in another shape: each is named."""

    @full.api.get("/api/v1/planted/stumble")
    async def stumble(_: Reads, divisor: int) -> int:
        return 1 // (divisor - divisor)

    @full.api.get("/api/v1/planted/shape", response_model=int)
    async def shape(_: Reads) -> Any:
        return JSONResponse("seven")

    full.api.openapi = lambda: document(full.api)  # type: ignore[method-assign]
    found = await fuzz(full, cases=40, chance=1, only="/api/v1/planted")
    said = " ".join(found.troubles)
    assert "500 is not documented" in said
    assert '200 at : "seven" is not of type "integer"' in said


async def test_cases_that_do_not_come_are_not_counted(full: Market) -> None:
    """Where nothing can be varied, fewer come than were asked for, and the count says so."""
    found = await fuzz(full, cases=30, chance=1, only="/livez")
    assert 0 < found.cases == sum(found.statuses.values()) < 30


async def test_document_is_whole(web: Web) -> None:
    """Each operation has a summary, a name of its own, typed answers, and every problem it can answer, with an example."""
    found = web.api.openapi()
    assert found["openapi"].startswith("3.1")
    names = [said["operationId"] for _, _, said in operations(found)]
    assert len(names) == len(set(names))
    for method, path, said in operations(found):
        where = f"{method} {path}"
        assert said["summary"], where
        assert any(status.startswith("2") for status in said["responses"]), where
        for status, response in said["responses"].items():
            for kind, media in response["content"].items():
                assert media["schema"], where
                assert (kind == "application/problem+json") is (int(status) >= 400 and path != "/readyz"), where
        if "x-roles" in said:
            assert {"401", "403", "422", "429", "503"} <= set(said["responses"]), where
            assert said["security"], where
        if "requestBody" in said:
            assert {"400", "413", "415"} <= set(said["responses"]), where


async def test_examples_are_good(web: Web) -> None:
    """Each example is as its own schema says, of bodies and of problems; a wrong one is seen."""
    found = web.api.openapi()
    judge, seen = Documented(found), 0
    for _, path, said in operations(found):
        media = list(said.get("requestBody", {}).get("content", {}).values())
        media += [one for response in said["responses"].values() for one in response["content"].values()]
        for one in media:
            examples = [value["value"] for value in one.get("examples", {}).values()]
            examples += [one["example"]] if "example" in one else []
            assert all(judge.valid(one["schema"], example) for example in examples), path
            seen += len(examples)
    assert seen > 200
    assert not judge.valid({"$ref": "#/components/schemas/ApproveIn"}, {"digset": "x"})


async def test_bodies_and_versions_are_said(web: Web) -> None:
    """A change says which body it takes, that its key is remembered, and which version it may be bound to."""
    found = web.api.openapi()["paths"]
    said = found["/api/v1/approvals/{approval_id}/approve"]["post"]
    assert said["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ApproveIn"}
    assert said["requestBody"]["required"] is True
    assert said["x-bytes-max"] == 64 * 1024
    headers = {one["name"] for one in said["parameters"] if one["in"] == "header"}
    assert headers == {"Idempotency-Key", "If-Match"}
    assert {"409", "412"} <= set(said["responses"])
    assert found["/integration-self-heal"]["post"]["x-bytes-max"] == 1024 * 1024
    assert {"internal": []} in found["/integration-self-heal"]["post"]["security"]
