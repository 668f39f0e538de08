"""Somebody who follows a page word for word, at a real shell: types what it shows, and sees what it says."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from docs.checks import settings_of
from docs.pages import Page, steps
from flows.warm import typed

_DONE = "::done "


class Reader:
    """A shell in a folder of its own, with `prunella`, `python` and `pip` on its path; a context manager.

    Args:
        swaps: what stands in for words of the page, as ports that are taken here.
        environ: what the shell finds in its environment beside that.
        paths: folders with more commands.
    """

    def __init__(
        self, folder: Path, swaps: Mapping[str, str], environ: Mapping[str, str], paths: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.said, self._swaps, self._seen = folder, "", dict(swaps), 0
        self._ends = ExitStack()
        self._environ, self._paths, self.patience_s = dict(environ), paths, 30.0

    def __enter__(self) -> Self:
        places = Path(self._ends.enter_context(tempfile.TemporaryDirectory()))
        self._ends.enter_context(typed(places))
        (places / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (places / "pip").write_text("#!/bin/sh\necho would: pip $@\n")
        for name in ("python", "pip"):
            (places / name).chmod(0o755)
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "HOME", "LANG") if name in os.environ}
        path = ":".join((str(places), *self._paths, os.environ["PATH"]))
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=self.folder,
            env={**kept, **self._environ, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.type("set -m")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(b"kill $(jobs -p) 2>/dev/null; wait\n")
        self._shell.stdin.close()
        try:
            self._shell.wait(30)
        finally:
            self._shell.stdout.close()
            if self._shell.poll() is None:
                os.killpg(self._shell.pid, signal.SIGKILL)
            self._ends.close()

    def swapped(self, text: str) -> str:
        """Return a text of the page as it is meant here."""
        for word, meant in self._swaps.items():
            text = text.replace(word, meant)
        return text

    def write(self, page: Page) -> None:
        """Write the files that a page shows, and its settings as they are at its end."""
        for block in (*page.blocks("python"), *page.blocks("sql"), *page.blocks("yaml")):
            if block.file:
                (self.folder / block.file).write_text(self.swapped(block.text))
        for _, text in settings_of(page):
            (self.folder / "prunella.yaml").write_text(self.swapped(text))

    def follow(self, page: Page, given: Mapping[str, Callable[[], str]] | None = None) -> Iterator[str]:
        """Type a page's commands; yields each once it has ended and said what is shown.

        Args:
            given: what a person puts in for a word in capitals, as ID.
        """
        for command, shown in (step for block in page.blocks("console") for step in steps(block)):
            self.type(self.swapped(_filled(command, given or {})))
            for line in shown:
                self.sees(line)
            yield command

    def type(self, command: str) -> str:
        """Type one command and return what was said until it ended; it has to end well."""
        assert self._shell.stdin is not None
        self._seen = len(self.said)
        self._shell.stdin.write(f'{command}\nprintf "\\n{_DONE}%s\\n" $?\n'.encode())
        self._shell.stdin.flush()
        found = self._until(rf"\n{_DONE}(\d+)\n")
        said = self.said[self._seen : found.start()]
        assert found[1] == "0", f"{command}\nended with {found[1]}:\n{self.said[self._seen :]}"
        return said

    def sees(self, line: str) -> re.Match[str]:
        """Wait until this was said since the last command began; … stands for anything, and spaces do not count."""
        words = [".*".join(map(re.escape, word.split("…"))) for word in self.swapped(line).split()]
        return self._until(" +".join(words).replace(" +.* +", " .*"))

    def _until(self, pattern: str) -> re.Match[str]:
        assert self._shell.stdout is not None
        end = time.monotonic() + self.patience_s
        wanted = re.compile(pattern, re.MULTILINE)
        while (found := wanted.search(self.said, self._seen)) is None:
            ready, _, _ = select.select([self._shell.stdout], [], [], max(end - time.monotonic(), 0))
            more = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            assert more, f"waited in vain for {pattern}; so far:\n{self.said[self._seen :]}"
            self.said += more.decode(errors="replace")
        return found


def _filled(command: str, given: Mapping[str, Callable[[], str]]) -> str:
    for word in given:
        if re.search(rf"\b{word}\b", command):
            command = re.sub(rf"\b{word}\b", given[word](), command)
    return command
