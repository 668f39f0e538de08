"""Known issues that come and go as packs. What comes from elsewhere gives knowledge, not licence.

A remedy travels as its name alone, and is never trusted where it arrives: a person is asked each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from prunella.core.errors import Conflict, InvalidInput
from prunella.core.issues import Binding, IssueState, KnownIssue, Origin
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.packs import Known
from prunella.diagnosis.patterns import Pattern
from prunella.engine import trail
from prunella.engine.learning import curation, entries, issues
from prunella.engine.learning.known import pattern_of
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction

_BY_PACK = "pack"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What became of a pack.

    Args:
        alone: entries that say what is known already.
        notes: what was left out, and why.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    alone: tuple[str, ...]
    notes: tuple[str, ...]


async def take_in(parts: Parts, pack: Sequence[Known], *, by: str, replaces: bool = False) -> TakenIn:
    """Make the entries of a pack known: all of them, or none.

    Args:
        replaces: an entry takes the place of what an issue with its id said; its history and bindings stay.

    Raises:
        Conflict: ids are taken by other patterns; it names them.
        InvalidInput: an id can't stand in an address, or too many patterns have no letters to find them by.
    """
    for one in pack:
        entries.must_be_kept(one.pattern)
    async with parts.store.transaction() as tx:
        rows = {one.id: one for one in await tx.learning.issues()}
        stands = dict(parts.known.shipped) | {name: pattern_of(one) for name, one in rows.items()}
        alone = [one.pattern for one in pack if _stands(one.pattern, stands)]
        others = [one.pattern for one in pack if not _stands(one.pattern, stands)]
        taken = [one.id for one in others if one.id in stands]
        if taken and not replaces:
            raise Conflict(
                f"there are other known issues with the ids {', '.join(sorted(taken))}; nothing was imported; "
                "give them other ids, or import with replace"
            )
        _must_be_kept(stands, others)
        notes: list[str] = []
        fresh = [_issue(parts, one, by, notes) for one in others if one.id not in stands]
        await tx.learning.add(fresh, parts.clock.now())
        for pattern in others:
            if pattern.id in stands:
                await _replace(parts, tx, pattern, notes)
        for issue in fresh:
            await curation.claim(parts, tx, issue)
        came = TakenIn(
            added=tuple(one.id for one in fresh),
            changed=tuple(taken),
            alone=tuple(one.id for one in alone),
            notes=tuple(notes),
        )
        await _note(parts, tx, came, by)
        tx.on_commit(parts.known.forget)
    return came


async def handed_out(parts: Parts, chosen: Iterable[str] = ()) -> list[Known]:
    """Return known issues as entries of a pack, by id: the chosen ones, or all.

    Raises:
        InvalidInput: one of the chosen is not there, or a secret stands in its pattern, which became known since.
    """
    async with parts.store.transaction() as tx:
        rows = {one.id: entries.known_of(one) for one in await tx.learning.issues()}
    shipped = {name: Known(_without_stranger(parts, pattern)) for name, pattern in parts.known.shipped.items()}
    found = shipped | rows
    wanted = list(dict.fromkeys(chosen)) or sorted(found)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidInput(f"there is no known issue {missing[0][:60]!r}", pointer="/id")
    for name in wanted:
        entries.must_be_open(found[name].pattern)
    return [found[name] for name in wanted]


def _stands(pattern: Pattern, stands: dict[str, Pattern]) -> bool:
    return pattern.id in stands and entries.same(pattern, stands[pattern.id])


def _must_be_kept(stands: dict[str, Pattern], others: Sequence[Pattern]) -> None:
    """Refuse more patterns without letters to find them by than are kept."""
    without = [one for one in others if Matcher().add(replace(one, resolved=False)) is not None]
    if without:
        coming = {one.id for one in others}
        matcher = Matcher(one for one in stands.values() if one.id not in coming)
        for one in without:
            matcher.add(replace(one, resolved=False))


def _issue(parts: Parts, pattern: Pattern, by: str, notes: list[str]) -> KnownIssue:
    now = parts.clock.now()
    issue = KnownIssue(
        id=pattern.id,
        **entries.fields_of(pattern),
        origin=Origin.PACK,
        remedies=_pairing(parts, pattern, notes),
        created_at=now,
        created_by=by,
    )
    if pattern.resolved:
        return replace(issue, state=IssueState.RESOLVED, resolved_at=now, resolved_by=by)
    return issue


async def _replace(parts: Parts, tx: Transaction, pattern: Pattern, notes: list[str]) -> None:
    issue = await issues.stored(parts, tx, pattern.id)
    assert issue is not None  # it stands
    more = () if pattern.remedy and issue.binding(pattern.remedy) else _pairing(parts, pattern, notes)
    said = replace(issue, **entries.fields_of(pattern), remedies=(*issue.remedies, *more), precision=None, tested=0)
    saved = await tx.learning.save(said, parts.clock.now())
    await curation.claim(parts, tx, saved)


def _pairing(parts: Parts, pattern: Pattern, notes: list[str]) -> tuple[Binding, ...]:
    """Return an entry's remedy as a pairing that asks each time; a note where it can't be one."""
    name = pattern.remedy
    if name is None:
        return ()
    remedy = parts.bindable.get(name)
    if remedy is None:
        notes.append(f"{pattern.id}: there is no remedy {name} here, so it is left to a person")
        return ()
    needed = [one for one, parameter in remedy.parameters.items() if parameter.required]
    if needed:
        notes.append(f"{pattern.id}: {name} needs {', '.join(needed)}, so a person has to bind it")
        return ()
    return (Binding(remedy=name, by=_BY_PACK),)


def _without_stranger(parts: Parts, pattern: Pattern) -> Pattern:
    """Return a shipped pattern as its issue would say it: a remedy that is not here is none."""
    return pattern if pattern.remedy in parts.bindable else replace(pattern, remedy=None)


async def _note(parts: Parts, tx: Transaction, came: TakenIn, by: str) -> None:
    told = [("added by a pack", came.added), ("changed by a pack", came.changed)]
    await tx.audit.add(
        [trail.entry(parts, "issue.imported", name, reason=words, by=by) for words, names in told for name in names]
    )
