"""Findings about what is around the tables: replicas, poolers, transactions that a rollout would wait for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts, Transaction

LONG_S = 60
UTC = frozenset(prefix + name for prefix in ("", "etc/") for name in ("utc", "uct", "gmt", "zulu", "universal"))
SHOWN = 3


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield what would hold up a rollout, or send it elsewhere."""
    if facts.replica:
        what = "this is a replica: it can be audited, and nothing can be changed in it"
        yield Finding("server/replica", Severity.WARNING, what, "Roll out on its primary.")
    if facts.replicas:
        what = "replicas follow this server: they get every change some time later"
        yield Finding("server/replicas", Severity.INFO, what, "", facts.replicas)
    if facts.pooler:
        what = f"there seems to be a pooler in between: {'; '.join(facts.pooler)}"
        todo = "Roll out over a direct connection: in transaction mode, locks and settings of a session get lost."
        yield Finding("server/pooler", Severity.WARNING, what, todo)
    if zones := {whose: zone for whose, zone in facts.time_zones.items() if zone.lower() not in UTC}:
        listed = ", ".join(f"{zone} for {whose}" for whose, zone in zones.items())
        what = f"the time zone is not UTC: {listed}. A timestamp without an offset is taken for one of that zone"
        todo = "Let the backend write offsets, or SET TimeZone TO 'UTC' there, before columns become timestamptz."
        yield Finding("server/time-zone", Severity.WARNING, what, todo)
    if long := [one for one in facts.transactions if one.age_s >= LONG_S]:
        shown = "; ".join(map(_told, long[:SHOWN])) + ("; ..." if len(long) > SHOWN else "")
        what = f"transactions are open for more than {LONG_S} s: {shown}"
        todo = "ALTER TABLE and CREATE INDEX CONCURRENTLY would wait for them. Ask whoever runs them to end them."
        evidence = {"transactions": [asdict(one) for one in long]}
        yield Finding("server/long-transactions", Severity.WARNING, what, todo, len(long), evidence=evidence)


def _told(one: Transaction) -> str:
    who = f"process {one.pid}" if one.pid is not None else "prepared for two-phase commit, in no process"
    return ", ".join(filter(None, [who, f"{one.age_s:,} s", one.application, one.state if one.pid else ""]))
