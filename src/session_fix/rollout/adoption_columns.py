"""What becomes of each column of a hand-made table when it is adopted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from session_fix.rollout import objects
from session_fix.rollout.found import Column, Count, Table
from session_fix.rollout.plan import Step
from session_fix.rollout.settlement import LONG_MS, How, Settlement, step

# From what to what PostgreSQL converts without losing anything, and how. All rows are written anew, under the strongest
# lock, except where text only gets longer.
MOMENT = re.compile(r"timestamp(\(\d\))? with(out)? time zone")
TEXTS = re.compile(r"text|character varying(\(\d+\))?|character\(\d+\)")
CONVERTIBLE = {
    "uuid": TEXTS,
    "character varying(100)": re.compile(r"uuid|character varying\(\d+\)|character\(\d+\)|bigint|integer"),
    "character varying(50)": re.compile(r"character varying\(\d+\)|character\(\d+\)"),
    "text": re.compile(r"character varying\(\d+\)|character\(\d+\)"),
    "integer": re.compile(r"smallint"),
    "timestamp without time zone": re.compile(r"date"),
}
UUID_FORM = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"


def baseline(table: str) -> dict[str, Column]:
    """Return the columns that the first revision makes."""
    return {column.name: column for column in _baseline(table)}


def _baseline(table: str) -> Iterator[Column]:
    for name, text in objects.of_revision(objects.revisions()[0]).items():
        if name.startswith(f"column {table}."):
            yield Column(name.rpartition(".")[2], text.removesuffix(" NOT NULL"), text.endswith(" NOT NULL"))


def to_cast(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return, by column, the query that counts the rows whose text is no UUID, where it has to become one."""
    found = {}
    for table in tables.values():
        for name, column in baseline(table.name).items():
            has = table.columns.get(name)
            if has and column.type == "uuid" and TEXTS.fullmatch(has.type):
                place = f"FROM public.{table.name} WHERE {name}::text !~ '{UUID_FORM}'"
                found[f"{table.name}.{name}"] = f"SELECT count(*) {place}"
    return found


def missing_table(name: str) -> Settlement:
    """Return how a table that is not there comes into being: with the columns of the first revision."""
    columns = ", ".join(
        f"{column.name} {column.type}{' NOT NULL' if column.not_null else ''}" for column in baseline(name).values()
    )
    made = f"CREATE TABLE public.{name} ({columns}, PRIMARY KEY (id))"
    return Settlement(f"table {name}", How.CHANGED, "It is created.", (step(name, f"Create {name}.", made),))


def settlements(table: Table, counts: Mapping[str, Count], uncastable: Mapping[str, int]) -> Iterator[Settlement]:
    """Yield what becomes of the columns that are not as the first revision makes them."""
    expected = baseline(table.name)
    for name, wanted in expected.items():
        if (found := table.columns.get(name)) is None:
            yield _missing(table, wanted)
        else:
            yield from _type(table, found, wanted, uncastable)
            yield from _not_null(table, found, wanted, counts)
            yield from _default(table, found)
    for name in sorted(set(table.columns) - set(expected)):
        yield _extra(table, table.columns[name])


def _place(table: Table, name: str) -> str:
    return f"column {table.name}.{name}"


def _missing(table: Table, wanted: Column) -> Settlement:
    place = _place(table, wanted.name)
    if wanted.not_null and table.rows != 0:
        why = f"Nobody knows what to write into {wanted.name} of the rows that are there. Add it, and fill it in."
        return Settlement(place, How.REFUSED, why)
    made = f"ALTER TABLE public.{table.name} ADD COLUMN {wanted.name} {wanted.type}"
    made += " NOT NULL" if wanted.not_null else ""
    title = f"Add {wanted.name} to {table.name}."
    return Settlement(place, How.CHANGED, "It is added.", (step(f"{table.name}.{wanted.name}", title, made),))


def _type(table: Table, found: Column, wanted: Column, uncastable: Mapping[str, int]) -> Iterator[Settlement]:
    if found.type == wanted.type:
        return
    place = _place(table, found.name)
    if MOMENT.fullmatch(found.type) and MOMENT.fullmatch(wanted.type):
        yield Settlement(place, How.LATER, f"It is {found.type}; a revision makes it timestamp with time zone.")
    elif objects.holds(found.type, wanted.type):
        why = f"It is {found.type}, which holds everything that {wanted.type} does."
        yield Settlement(place, How.KEPT, why)
    elif (number := uncastable.get(f"{table.name}.{found.name}", 0)) > 0:
        why = f"It is {found.type}; rows that hold what is no {wanted.type}: {number:,}. Correct or remove them first."
        yield Settlement(place, How.REFUSED, why)
    elif (convertible := CONVERTIBLE.get(wanted.type)) and convertible.fullmatch(found.type):
        yield Settlement(
            place, How.CHANGED, f"It is {found.type} and becomes {wanted.type}.", (_convert(table, found, wanted),)
        )
    else:
        why = f"It is {found.type}, and what it holds cannot become {wanted.type} by itself. Convert it first."
        yield Settlement(place, How.REFUSED, why)


def _convert(table: Table, found: Column, wanted: Column) -> Step:
    name = found.name
    actions = [f"ALTER COLUMN {name} DROP DEFAULT"] if found.default is not None else []
    actions.append(f"ALTER COLUMN {name} TYPE {wanted.type} USING {name}::{wanted.type}")
    if found.default is not None and wanted.type == "uuid":
        actions.append(f"ALTER COLUMN {name} SET DEFAULT gen_random_uuid()")
    title = f"{table.name}.{name} becomes {wanted.type}."
    return step(f"{table.name}.{name}-type", title, f"ALTER TABLE public.{table.name} {', '.join(actions)}")


def _not_null(table: Table, found: Column, wanted: Column, counts: Mapping[str, Count]) -> Iterator[Settlement]:
    place, name = _place(table, found.name), found.name
    if wanted.not_null and not found.not_null:
        nulls = counts.get(f"rows/null/{table.name}.{name}")
        if name == "id":
            return  # the primary key sees to it
        if nulls and nulls.number:
            why = f"It may be NULL; rows in which it is: {nulls.number:,}. Fill it in or remove them first."
            yield Settlement(place, How.REFUSED, why)
        else:
            yield Settlement(
                place, How.CHANGED, "It may be NULL and becomes NOT NULL.", tuple(set_not_null(table, name))
            )
    elif found.not_null and not wanted.not_null and found.default is None:
        dropped = f"ALTER TABLE public.{table.name} ALTER COLUMN {name} DROP NOT NULL"
        title = f"{table.name}.{name} need not be given."
        yield Settlement(
            place,
            How.CHANGED,
            "It is NOT NULL; the backend need not give it.",
            (step(f"{table.name}.{name}-nullable", title, dropped),),
        )


def set_not_null(table: Table, name: str) -> Iterator[Step]:
    """Yield three steps: only the second reads the table, and nobody waits for it.

    PostgreSQL does not read it again for SET NOT NULL where a valid check says the same. Source: PostgreSQL manual,
    ALTER TABLE, "SET NOT NULL".
    """
    check, alter = f"{table.name}_{name}_given", f"ALTER TABLE public.{table.name}"
    place = f"{table.name}.{name}"
    yield step(
        f"{place}-given",
        f"New rows have to give {place}.",
        f"{alter} ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID",
    )
    yield step(
        f"{place}-given-valid",
        f"Older rows are checked for {place}.",
        f"{alter} VALIDATE CONSTRAINT {check}",
        lock_timeout_ms=LONG_MS,
    )
    yield step(
        f"{place}-not-null",
        f"{place} is NOT NULL.",
        f"{alter} ALTER COLUMN {name} SET NOT NULL, DROP CONSTRAINT {check}",
    )


def _default(table: Table, found: Column) -> Iterator[Settlement]:
    head = objects.of_revision(objects.revisions()[-1]).get(_place(table, found.name), "")
    if found.default is not None and not head.endswith(f" DEFAULT {found.default}"):
        later = " DEFAULT " in head
        why = "A revision gives it another default." if later else "It has a default of its own."
        yield Settlement(_place(table, found.name), How.LATER if later else How.KEPT, why)


def _extra(table: Table, found: Column) -> Settlement:
    place = _place(table, found.name)
    if found.not_null and found.default is None:
        why = "The backend does not know it, and it has to be given. Give it a default, or drop NOT NULL."
        return Settlement(place, How.REFUSED, why)
    return Settlement(place, How.KEPT, "It is a column of your own.")
