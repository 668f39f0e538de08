"""Write docs/reference from the code: commands, settings, errors, events, metrics. `make reference` runs it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

from prunella.cli.commands import cli
from prunella.core.clock import SystemClock
from prunella.core.errors import PrunellaError
from prunella.core.issues import Effect, IssueState
from prunella.core.states import ApprovalState
from prunella.engine.people import INCIDENT_ACTS, SERVICE_ACTS
from prunella.settings import json_schema, model
from prunella.settings.origins import default_of, section_in
from prunella.settings.section import Section
from prunella.web.metrics import Metrics

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "prunella"
FOLDER = ROOT / "docs" / "reference"
_MADE = "<!-- Written by `make reference` from the code; do not edit. -->"
_ABOUT_SETTINGS = (
    "`prunella.yaml`, and below it each section with its names. Secrets are references: `${NAME}` for the environment, "
    "`secret://name` for the store. Durations are `500ms`, `10s`, `30m`, `4h`, `7d`. "
    "`prunella config show --origin` shows what counts and where it comes from."
)
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "incident.{act}": tuple(f"incident.{act}" for act in INCIDENT_ACTS),
    "gate.{act}": tuple(f"gate.{act}" for act in SERVICE_ACTS if act not in ("enable", "resume", "probe")),
    "incidents.{act}": ("incidents.retry", "incidents.ack"),
    "operation.{act}": ("operation.replay", "operation.cancel", "operation.quarantine"),
    "operations.{act}": ("operations.replay", "operations.cancel", "operations.quarantine"),
    "operation.{wish}": ("operation.replay", "operation.cancel"),
    "approval.{state.value}": tuple(f"approval.{state}" for state in ApprovalState if state != "waiting"),
    "issue.{state.value}": tuple(f"issue.{state}" for state in IssueState),
    "remedy.{effect.value}": tuple(f"remedy.{effect}" for effect in Effect),
    "{run.remedy}.begun": ("REMEDY.begun",),
    "{plan.remedy}.begun": ("REMEDY.begun",),
    "{plan.remedy}.settled": ("REMEDY.settled",),
    "operations.{act}.ended": ("operations.replay.ended", "operations.cancel.ended", "operations.quarantine.ended"),
}
"""Names in the audit that are put together, and what comes of them; an unknown one fails, so that none is left out."""


def pages() -> dict[str, str]:
    """Return each file's text by its name."""
    made = {"cli": _cli(), "settings": _settings(), "errors": _errors(), "events": _events(), "metrics": _metrics()}
    return {f"{name}.md": f"{_MADE}\n\n{text.rstrip()}\n" for name, text in made.items()}


def main() -> None:
    """Write every file that changed, and say which."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


# Commands -------------------------------------------------------------------------------------------------------------


def _cli() -> str:
    group: Any = get_command(cli)
    ends = (
        "Every command takes `--config PATH` (`-c`), before or after it. It ends with status 0 when all is well, 1 "
        "when something was refused, failed, or is to be put right, 2 on wrong usage or configuration, 130 when "
        "interrupted. Lists take `--json`, changes `--dry-run`."
    )
    return "\n\n".join(["# Commands", ends, *_commands(group, "prunella")])


def _commands(group: Any, before: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        words = f"{before} {name}"
        yield _command(command, words)
        if hasattr(command, "commands"):
            yield from _commands(command, words)


def _command(command: Any, words: str) -> str:
    documented = inspect.getdoc(command.callback) if command.callback else None
    text = [f"## {words}", command.help or documented or ""]
    rows = [_option(one) for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    if rows:
        text.append(_table(("argument or option", "what it does", "default"), rows))
    examples = re.findall(r"\$ (.+)", command.epilog or "")
    if examples:
        text.append("```console\n" + "\n".join(f"$ {line}" for line in examples) + "\n```")
    return "\n\n".join(text)


def _option(one: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if one.param_type_name == "argument":
        names = f"`{one.metavar or one.name.upper()}`"
    default = "required" if one.required else _plain(one.default)
    return names, one.help or "", default


def _plain(value: Any) -> str:
    if value in (None, "", False) or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


# Settings -------------------------------------------------------------------------------------------------------------


def _settings() -> str:
    schema = json_schema()
    text = ["# Settings", _ABOUT_SETTINGS]
    return "\n\n".join([*text, *_sections(schema, model.File, "", set())])


def _sections(schema: Mapping[str, Any], section: type[Section], path: str, seen: set[type]) -> Iterator[str]:
    shape = schema if section is model.File else schema["$defs"][section.__name__]
    shape = next((one for one in shape.get("anyOf", [shape]) if "properties" in one), shape)
    rows = []
    for name, info in section.model_fields.items():
        written = info.alias or name
        allowed = shape.get("properties", {}).get(written, {})
        default = default_of(section, name)
        words = info.description or allowed.get("description") or ""
        shown = "" if default in (None, [], {}, "") or _is_section(default) else f"`{_yaml(default)}`"
        rows.append(
            (f"`{written}`", _kind(schema, allowed), shown or ("required" if info.is_required() else ""), words)
        )
    title = path or "The file"
    yield f"## {title}\n\n{(inspect.getdoc(section) or '').splitlines()[0]}\n\n" + _table(
        ("name", "value", "default", "meaning"), rows
    )
    for name, info in section.model_fields.items():
        inner, kind = section_in(info.annotation)
        if inner is None or inner in seen:
            continue
        below = f"{path}.{info.alias or name}".lstrip(".") + (".NAME" if kind is dict else "")
        yield from _sections(schema, inner, below, seen | {section, inner})


def _is_section(default: Any) -> bool:
    return isinstance(default, dict) and "as" in default


_PATTERNS = {
    "^([0-9]": "duration",
    "secret://": "reference to a secret",
    "\\$\\{": "reference to the environment",
}
"""What a value is whose pattern holds these signs."""


def _kind(schema: Mapping[str, Any], allowed: Mapping[str, Any]) -> str:
    """Say in words what a value may be."""
    if "$ref" in allowed:
        return _kind(schema, schema["$defs"][allowed["$ref"].rpartition("/")[2]])
    if "enum" in allowed or "const" in allowed:
        return ", ".join(f"`{one}`" for one in allowed.get("enum", [allowed.get("const")]))
    kind = allowed.get("type", "any value")
    if "anyOf" in allowed or isinstance(kind, list):
        either = allowed.get("anyOf") or [{"type": one} for one in kind]
        return " or ".join(dict.fromkeys(_kind(schema, one) for one in either))
    for sign, words in _PATTERNS.items():
        if sign in str(allowed.get("pattern", "")):
            return words
    if kind == "array":
        return f"list of {_kind(schema, allowed.get('items', {}))}"
    if kind == "object":
        return "section" if "properties" in allowed else "mapping"
    if kind in ("integer", "number"):
        least, most = allowed.get("minimum", allowed.get("exclusiveMinimum")), allowed.get("maximum")
        return f"{kind}" + (f", {least} to {most}" if least is not None and most is not None else "")
    return {"string": "text", "boolean": "`true`, `false`"}.get(str(kind), str(kind))


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, list) else str(value)


# Errors ---------------------------------------------------------------------------------------------------------------


def _errors() -> str:
    for path in sorted(SOURCE.rglob("*.py")):
        if 'code = "PR' in path.read_text():
            importlib.import_module(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    found: dict[str, type] = {one.__dict__["code"]: one for one in _below(PrunellaError) if "code" in one.__dict__}
    rows = [(f"`{code}`", f"`{one.__name__}`", _first_line(one)) for code, one in sorted(found.items())]
    text = "What prunella raises on purpose. A code is never used for a second meaning."
    return "\n\n".join(["# Errors", text, _table(("code", "class", "what it says"), rows)])


def _first_line(documented: type) -> str:
    return (inspect.getdoc(documented) or "").splitlines()[0]


def _below(root: type[Any]) -> Iterator[type[Any]]:
    yield root
    for one in root.__subclasses__():
        yield from _below(one)


# Events ---------------------------------------------------------------------------------------------------------------


def _events() -> str:
    events: dict[str, set[str]] = {}
    actions: set[str] = set()
    for path in sorted(SOURCE.rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = str(getattr(call.func, "attr", getattr(call.func, "id", "")))
            if name == "emit" and call.args and (event := _text(call.args[0])):
                events.setdefault(event, set()).update(one.arg for one in call.keywords if one.arg)
            if SOURCE / "engine" in path.parents and name in ("note", "_note", "entry"):
                actions.update(_actions(call.args))
        if SOURCE / "engine" in path.parents:
            actions.update(_named(ast.parse(path.read_text())))
    rows = [(f"`{name}`", ", ".join(f"`{one}`" for one in sorted(fields))) for name, fields in sorted(events.items())]
    told = "What a process tells its listeners as it happens; each is a line of the log, `event` its name."
    kept = "What stands in the audit, with who did it, to what, and why; `prunella events tail` shows it."
    listed = "\n".join(f"- `{action}`" for action in sorted(actions))
    return "\n\n".join(["# Events", told, _table(("event", "fields"), rows), "## The audit", kept, listed])


def _text(node: ast.expr) -> str | None:
    """Return a text as it stands in the source, its gaps in braces; None where it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_piece(one) for one in node.values)
    return None


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "{" + ast.unparse(getattr(node, "value", node)) + "}"


def _named(tree: ast.Module) -> Iterator[str]:
    """Yield the names that are put into a variable `action` first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["action"]:
            yield from _actions([node.value])


def _actions(values: Sequence[ast.expr]) -> Iterator[str]:
    """Yield the names that the audit gets: of the first text, as it is or as what it is put together to."""
    texts = [text for one in values if (text := _text(one)) is not None]
    if texts and re.fullmatch(r"[a-z_{}.]+", texts[0]):
        yield from _ACTIONS[texts[0]] if "{" in texts[0] else (texts[0],)


# Metrics --------------------------------------------------------------------------------------------------------------


def _metrics() -> str:
    registry: Any = Metrics((), (), SystemClock().now).registry
    rows = []
    for collector in dict.fromkeys(registry._collector_to_names):  # noqa: SLF001, it has no other list
        labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
        for family in getattr(collector, "describe", tuple)():  # of the process itself: Prometheus's own names
            name = f"{family.name}_total" if family.type == "counter" else family.name
            rows.append((f"`{name}`", family.type, labels, family.documentation))
    text = "What `/metrics` answers (Prometheus exposition); each process counts for itself."
    return "\n\n".join(["# Metrics", text, _table(("name", "kind", "labels", "meaning"), sorted(rows))])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines
    )


if __name__ == "__main__":
    main()
