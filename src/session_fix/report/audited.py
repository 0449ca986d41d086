"""An audit as text for people, readable in a log at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from session_fix.report.columns import wrapped
from session_fix.rollout.audit import Audit
from session_fix.rollout.finding import Finding, Severity

INDENT = 22
WORDS = {"pass": "nothing to repair", "fail": "something to repair", "inconclusive": "not all could be read"}


def text(audit: Audit) -> str:
    """Return the findings as a table, what could not be seen, and what it comes to."""
    facts = audit.facts
    lines = [
        *wrapped(f"{facts.database}, read as {facts.role}, PostgreSQL {facts.version}", ""),
        "",
        f"{'severity':8}  {'how many':>10}  finding",
        *(line for finding in audit.findings for line in _rows(finding)),
    ]
    if facts.unseen:
        lines += ["", "not seen:"]
        lines += [line for one in facts.unseen for line in wrapped(f"{one.what}: {one.why}", "  ")]
    return "\n".join([*lines, "", _sum(audit)])


def _rows(finding: Finding) -> Iterator[str]:
    number = "" if finding.count is None else f"{'' if finding.exact else '~'}{finding.count:,}"
    first, *rest = wrapped(finding.what, " " * INDENT)
    yield f"{finding.severity:8}  {number:>10}  {first.strip()}"
    yield from rest
    if finding.todo:
        yield from wrapped(f"-> {finding.todo}", " " * INDENT)
    yield from wrapped(f"[{finding.id}]", " " * INDENT)


def _sum(audit: Audit) -> str:
    found = Counter(finding.severity for finding in audit.findings)
    counts = ", ".join(
        f"{found[one]} {one}{'s' if found[one] != 1 and one is not Severity.INFO else ''}" for one in Severity
    )
    partly = f"; {WORDS['inconclusive']}" if audit.verdict == "fail" and audit.missed else ""
    return f"{WORDS[audit.verdict]}{partly}: {counts}"


def as_json(audit: Audit) -> dict[str, Any]:
    """Return everything: the verdict, where it was read, the findings, and what was not seen."""
    facts = audit.facts
    return {
        "verdict": audit.verdict,
        "database": facts.database,
        "role": facts.role,
        "postgres": facts.version,
        "counts": {one.value: sum(finding.severity is one for finding in audit.findings) for one in Severity},
        "findings": [dataclasses.asdict(finding) for finding in audit.findings],
        "unseen": [dataclasses.asdict(one) for one in facts.unseen],
    }
