"""Findings about ways past the grants and policies: by a view or a function that has its owner's rights. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts

BROWSERS = frozenset({"anon", "authenticated"})


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield what browsers can get at rows through, and what runs by whichever search_path its caller has."""
    for view in facts.views:
        if (by := sorted(view.roles & BROWSERS)) and not view.invoker:
            what = f"the view {view.name} shows {' and '.join(by)} rows with its owner's rights: no policy binds it"
            todo = "ALTER VIEW ... SET (security_invoker = true), from PostgreSQL 15 on, or REVOKE it from them."
            yield Finding(f"access/view-definer/{view.name}", Severity.PROBLEM, what, todo)
    for function in facts.definers:
        by = sorted(function.roles & BROWSERS)
        if not function.search_path:
            severity = Severity.PROBLEM if by else Severity.WARNING
            what = f"{function.name} has its owner's rights and its caller's search_path, and names our tables"
            todo = "ALTER FUNCTION ... SET search_path = '', with each name in it qualified."
            yield Finding(f"access/definer-search-path/{function.name}", severity, what, todo)
        if by:
            what = f"{' and '.join(by)} may execute {function.name}, which reaches our tables with its owner's rights"
            todo = "REVOKE EXECUTE from PUBLIC and from them, unless it decides by itself whose rows it touches."
            yield Finding(f"access/definer-open/{function.name}", Severity.WARNING, what, todo)
