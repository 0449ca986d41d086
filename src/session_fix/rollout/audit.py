"""An audit: findings out of facts, and what they come to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from session_fix.rollout import (
    access_findings,
    definer_findings,
    object_findings,
    pending,
    row_findings,
    schema_findings,
    server_findings,
    version_findings,
)
from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found, the worst first."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def missed(self) -> bool:
        """Whether something to repair could be in what was not seen."""
        return any(unseen.matters for unseen in self.facts.unseen)

    @property
    def verdict(self) -> str:
        """``fail`` where there is something to repair, ``inconclusive`` where there could be, else ``pass``."""
        if any(finding.severity is Severity.PROBLEM for finding in self.findings):
            return "fail"
        return "inconclusive" if self.missed else "pass"


def judge(facts: Facts, revisions: Sequence[str]) -> Audit:
    """Return the findings; ``revisions`` are those of the migrations, the oldest first."""
    expected = pending.expected(facts.versions, revisions, facts.objects, facts.roles)
    found = (
        *version_findings.findings(facts, revisions, expected),
        *schema_findings.findings(facts, expected),
        *object_findings.findings(facts, expected),
        *row_findings.findings(facts),
        *access_findings.findings(facts, expected),
        *definer_findings.findings(facts),
        *server_findings.findings(facts),
    )
    order = list(Severity)
    return Audit(facts, tuple(sorted(found, key=lambda finding: order.index(finding.severity))))
