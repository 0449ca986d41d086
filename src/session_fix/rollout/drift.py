"""Where a schema is not what its version promises: what a plan cannot be made over, and what it may pass by. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from session_fix.errors import RolloutRefusedError
from session_fix.rollout import objects, predict, versions
from session_fix.rollout.standing import Standing
from session_fix.rollout.versions import Differences

# Kinds of objects that no step builds on; the steps that are about them write them anew.
PASSED_BY = frozenset({"grant", "policy", "trigger", "table"})
MOST_SHOWN = 20


def differences(standing: Standing, version: str) -> Differences:
    """Return what differs from what the version promises; a valid constraint is as good as one that is not."""
    promised = versions.promised_with_options(version, standing.roles, standing.objects)
    return objects.difference(standing.objects, promised, exact=False)


def checked(standing: Standing, version: str, to: str) -> Differences:
    """Return what differs and is in no step's way. Raises ``RolloutRefusedError`` where something else does."""
    found = differences(standing, version)
    bad = {name: pair for name, pair in found.items() if not _may_stay(name, *pair, version=version, to=to)}
    if bad:
        raise RolloutRefusedError(
            f"The version is {version or 'none'}, but the schema is not what it promises:\n"
            + "\n".join(f"  {line}" for line in described(bad))
            + f"\nThe schema (fingerprint {standing.binding.fingerprint}) "
            f"{versions.likeness(standing.objects, standing.roles)}. Put these right first; `session-fix migrate "
            "adopt` has a way for a schema that was made by hand. Nothing was changed."
        )
    return found


def _may_stay(name: str, found: str | None, wanted: str | None, *, version: str, to: str) -> bool:
    """Say whether the steps can go on over a difference. What the copy says comes on top of that."""
    kind = name.partition(" ")[0]
    if name == predict.KEY:
        added = version < "0008_foreign_key_not_valid" <= to
        validated = version < "0010_foreign_key_validate"
        return (found is None and added) or (validated and found == f"{wanted} NOT VALID")
    if wanted is None:
        return kind != "table" and not _in_the_way(name, found, version, to)
    if kind in PASSED_BY:
        return found is not None or kind != "table"
    later = _promised_between(name, version, to)
    return found is not None and found in later


def _in_the_way(name: str, found: str | None, version: str, to: str) -> bool:
    """Say whether an object that is too many has the name of one that a step makes, and is not what it makes."""
    later = _promised_between(name, version, to)
    if not later or name.partition(" ")[0] in PASSED_BY:
        return False
    if name.startswith("index "):
        return found is not None and found.removesuffix(" INVALID") not in later
    return True


def _promised_between(name: str, version: str, to: str) -> set[str]:
    order = ["", *objects.revisions()]
    between = order[order.index(version) + 1 : order.index(to) + 1]
    return {one[name] for revision in between if name in (one := versions.promised(revision, frozenset(objects.ROLES)))}


def described(found: Differences) -> Iterable[str]:
    """Yield a line for each difference: the object, what is there and what should be."""
    for name, (has, wants) in list(found.items())[:MOST_SHOWN]:
        if wants is None:
            yield f"{name} is there, and no revision makes it: {has}"
        elif has is None:
            yield f"{name} is missing: {wants}"
        else:
            yield f"{name} is {has}, not {wants}"
    if len(found) > MOST_SHOWN:
        yield f"and {len(found) - MOST_SHOWN} more"
