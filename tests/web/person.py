"""Somebody with a browser that runs no script: opens pages, fills in the forms that stand on them, follows on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser

import httpx2

from prunella.web.auth import Gatehouse, Role


@dataclass
class Form:
    """A form as it stands on a page: where it goes, and what it carries if nobody types anything."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    """A page as a person reads it: its words without tags, its forms, its links."""

    status: int
    html: str
    words: str
    forms: list[Form]
    links: list[str]

    def form(self, ending: str) -> Form:
        """Return the only form whose address ends so."""
        found = [one for one in self.forms if one.action.endswith(ending)]
        assert len(found) == 1, f"{ending}: {[one.action for one in self.forms]}"
        return found[0]

    @property
    def actions(self) -> set[str]:
        """Return where the forms of the page itself go; those of its frame left aside."""
        frame = ("/logout", "/theme", "/pause", "/resume")
        return {one.action for one in self.forms if one.method == "post" and one.action not in frame}


class _Reader(HTMLParser):
    """Read forms, links and words out of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: Form | None = None
        self._named: tuple[str, bool] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get"))
            self.forms.append(self._open)
        if self._open is None or "name" not in given:
            if self._open is not None and tag == "option" and self._named and "selected" in given:
                self._open.fields[self._named[0]] = given.get("value", "")
            return
        if tag == "button":
            self._open.buttons.append((given["name"], given.get("value", "")))
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self._open.fields[given["name"]] = given.get("value", "")
        elif tag in ("textarea", "select"):
            self._open.fields[given["name"]] = ""
            self._named = (given["name"], tag == "textarea")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        if tag in ("textarea", "select"):
            self._named = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._open is not None and self._named is not None and self._named[1]:
            self._open.fields[self._named[0]] += data


@dataclass
class Person:
    """Who has signed in; `prefix`: where prunella is mounted."""

    client: httpx2.AsyncClient
    cookies: dict[str, str]
    prefix: str = ""

    @classmethod
    async def enter(
        cls, client: httpx2.AsyncClient, gatehouse: Gatehouse, role: Role, name: str = "ada", prefix: str = ""
    ) -> Person:
        """Sign in with a token, as the first page asks for."""
        one = cls(client, {}, prefix)
        answer = await one.request(
            "POST", f"{prefix}/login", data={"token": gatehouse.mint(role, timedelta(hours=1), name)}
        )
        assert answer.status_code == 303, answer.text
        return one

    async def request(self, method: str, path: str, **how: object) -> httpx2.Response:
        """Send one request with this person's cookies alone, and keep what the answer sets; wait where told to."""
        self.client.cookies.clear()
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"accept": "text/html", "cookie": header}
        while True:
            answer = await self.client.request(method, path, headers=headers, **how)  # type: ignore[arg-type]
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower() or not value.strip('"'):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value.strip('"')
        self.client.cookies.clear()
        return answer

    async def open(self, path: str) -> Page:
        """Open a page of ours."""
        return page_of(await self.request("GET", self.prefix + path))

    async def send(self, form: Form, **typed: str) -> httpx2.Response:
        """Send a form with what was typed into it."""
        return await self.request("POST", form.action, data={**form.fields, **typed})

    async def fill(self, page: Page, ending: str, **typed: str) -> Page:
        """Send a form and follow on to the page that comes of it."""
        answer = await self.send(page.form(ending), **typed)
        if answer.status_code == 303:
            answer = await self.request("GET", answer.headers["location"])
        return page_of(answer)


def page_of(answer: httpx2.Response) -> Page:
    """Read a page."""
    reader = _Reader()
    reader.feed(answer.text)
    words = " ".join("".join(reader.words).split())
    return Page(answer.status_code, answer.text, words, reader.forms, reader.links)
