"""What a page must be: its links lead somewhere, its settings load, its code and its messages exist. Faults are returned."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import prunella
from docs.pages import ROOT, Block, Page, page
from prunella.core.errors import ConfigError
from prunella.core.records import KINDS
from prunella.settings import json_schema, load

SCHEMA = json_schema()
SECTIONS = set(SCHEMA["properties"])


# Links ----------------------------------------------------------------------------------------------------------------


def links(of: Page) -> list[str]:
    """Return where a page leads inside the repository: relative addresses, pictures, too."""
    named = re.findall(r"\]\(([^)\s]+)\)", of.prose) + re.findall(r"^\[[^]]+\]: (\S+)", of.prose, re.MULTILINE)
    return [one for one in named if not re.match(r"[a-z]+:", one)]


def anchors(of: Page) -> set[str]:
    """Return the headings of a page as addresses name them."""
    heads = re.findall(r"^#+ (.+?)\s*$", of.prose, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head).lower() for head in heads]
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain}


def dead_links(of: Page) -> list[str]:
    """Return the links that lead to no file, or to no heading of it."""
    return [one for one in links(of) if not _leads(of, one)]


def _leads(of: Page, link: str) -> bool:
    path, _, anchor = link.partition("#")
    if not path:
        return anchor in anchors(of)
    target = ((ROOT / of.name).parent / path).resolve()
    if not target.exists() or ROOT not in target.parents:
        return False
    return not anchor or anchor in anchors(page(str(target.relative_to(ROOT))))


# Settings -------------------------------------------------------------------------------------------------------------


def settings_of(of: Page) -> Iterator[tuple[Block, str]]:
    """Yield each block that is prunella.yaml or a part of it, with the file that a reader of the page has by then.

    A section that a block leaves out is the one that the page showed last.
    """
    shown: dict[str, Any] = {}
    for block in of.blocks("yaml"):
        if block.file not in ("", "prunella.yaml"):
            continue
        held = yaml.safe_load(block.text)
        if block.place:
            whole = yaml.safe_load(yaml.safe_dump(shown))
            _at(whole, block.place).update(held)
        else:
            whole = {**shown, **held}
            shown = whole
        yield block, yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)


def _at(whole: Any, place: str) -> Any:
    for name in place.split("."):
        whole = whole[int(name) if name.isdigit() else name]
    return whole


def wrong_settings(of: Page) -> list[str]:
    """Return what the real loader refuses or warns of."""
    return [fault for block, text in settings_of(of) for fault in _refused(text)]


def _refused(text: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prunella.yaml")
        path.write_text(text, encoding="utf-8")
        try:
            return list(load(path, environment(text)).warnings)
        except ConfigError as refused:
            return refused.problems


def environment(text: str) -> dict[str, str]:
    """Return a fitting value for each variable that a file names."""
    return {name: _value(name) for name in re.findall(r"\$\{(\w+)\}", text)}


def _value(name: str) -> str:
    if name.startswith("PARTNER_SECRET"):
        return f"whsec_{'c' * 44}"
    if name.startswith("SMTP"):
        return "smtp://mail.example"
    if "DATABASE" in name:
        return "postgresql://prunella:pass-abcdef@db.example/shop"
    return (
        f"https://{name.lower().replace('_', '-')}.example/x"
        if name.endswith("_URL")
        else f"{name.lower()}-0123456789abcdef"
    )


def unreadable(of: Page) -> list[str]:
    """Return the blocks of YAML and JSON that can't be read at all."""
    yamls = [block.text for block in of.blocks("yaml") if not _reads(yaml.safe_load, block.text)]
    return yamls + [block.text for block in of.blocks("json") if not _reads(json.loads, block.text)]


def _reads(read: Callable[[str], Any], text: str) -> bool:
    try:
        return read(text) is not None
    except (yaml.YAMLError, ValueError):
        return False


def unknown_settings(of: Page) -> list[str]:
    """Return the settings that sentences name by their path (`service.listen`) and that do not exist."""
    named = re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", of.prose)
    ours = [one for one in named if one.partition(".")[0] in SECTIONS and one not in KINDS and not one.endswith(".py")]
    return [one for one in ours if not _is_setting(SCHEMA, one.split("."))]


def _is_setting(shape: dict[str, Any], path: list[str]) -> bool:
    if not path:
        return True
    if "$ref" in shape:
        return _is_setting(SCHEMA["$defs"][shape["$ref"].rpartition("/")[2]], path)
    if any(_is_setting(one, path) for one in shape.get("anyOf", [])):
        return True
    if "items" in shape:
        return _is_setting(shape["items"], path)
    below = shape.get("properties", {}).get(path[0], shape.get("additionalProperties"))
    return isinstance(below, dict) and _is_setting(below, path[1:])


def unknown_extras(of: Page) -> list[str]:
    """Return the extras that a page installs and that the package does not have."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [
        one for named in re.findall(r"prunella\[([\w,]+)\]", of.text) for one in named.split(",") if one not in extras
    ]


# Code -----------------------------------------------------------------------------------------------------------------


def wrong_code(of: Page) -> list[str]:
    """Return names of ours that a page's Python uses and that do not exist, and arguments that are not taken.

    Running a block does not look into the functions that it only defines; this does.
    """
    faults: list[str] = []
    pr: set[str] = set()
    for block in of.blocks("python"):
        try:
            tree = ast.parse(block.text)
        except SyntaxError as error:
            faults.append(f"line {error.lineno}: {error.msg}")
            continue
        pr |= {
            one.asname or one.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for one in node.names
            if one.name == "prunella"
        }
        for node in ast.walk(tree):
            faults += _wrong_node(node, pr)
    return faults


def _wrong_node(node: ast.AST, pr: set[str]) -> list[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "prunella":
        module = importlib.import_module(node.module or "")
        return [f"from {node.module} import {one.name}" for one in node.names if not hasattr(module, one.name)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in pr:
        return [] if hasattr(prunella, node.attr) else [f"{node.value.id}.{node.attr}"]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in pr
    ):
        taken = inspect.signature(getattr(prunella, node.func.attr, lambda **_: None)).parameters
        anything = any(one.kind is one.VAR_KEYWORD for one in taken.values())
        return [
            f"{node.func.attr}({one.arg}=…)"
            for one in node.keywords
            if one.arg and not anything and one.arg not in taken
        ]
    return []


# Messages -------------------------------------------------------------------------------------------------------------


def unsaid(of: Page) -> list[str]:
    """Return the messages in the first column of a page's tables that prunella never says; … stands for what varies."""
    rows = re.findall(r"^\| (.+?) \|", of.prose, re.MULTILINE)
    told = [
        one for row in rows for one in re.findall(r"`([^`]+)`", row) if " " in one and not one.startswith("prunella ")
    ]
    parts = [(one, part.strip(" ;,")) for one in told for part in one.split("…")]
    return [one for one, part in parts if part and not any(part in text for text in _texts())]


@cache
def _texts() -> list[str]:
    """Return every text in the code, with … for what is put in."""
    found: list[str] = []
    for source in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values))
    return found
