"""The lane diagram as text: inside its width whatever is in it, and only what it was given."""

import pytest

from session_fix.report.lanes import ASCII, UNICODE, draw, glyphs_for
from session_fix.report.messages import BACKEND, DATABASE, FRONTEND, Message, messages

LONG = "POST ai_interactions " + " ".join(f"column_{number}={number}" for number in range(8))
WORD = "x" * 150
WAYS = [(FRONTEND, BACKEND), (BACKEND, FRONTEND), (BACKEND, DATABASE), (DATABASE, BACKEND), (BACKEND, BACKEND)]


def plain(drawn, **options):
    """Return the lines without their styles."""
    return [line.plain for line in draw(drawn, **{"width": 100} | options)]


@pytest.mark.parametrize("text", ["", "short", LONG, WORD, f"{WORD} {LONG}", "two\nlines\tand a tab"])
@pytest.mark.parametrize("width", range(60, 121))
def test_no_line_is_wider_than_asked_for(width, text):
    """A line that the terminal wraps tears the lanes apart."""
    drawn = [Message(source, target, text, depth=depth) for source, target in WAYS for depth in (0, 3)]
    assert max(line.cell_len for line in draw(drawn, width=width)) <= min(width, 100)


@pytest.mark.parametrize("width", [60, 77, 100])
@pytest.mark.parametrize("text", ["", "short", LONG, WORD])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_no_text_crosses_a_lane(source, target, text, width):
    """Words that run into the next lane seem to be said there."""
    lanes = (1, 1 + (width - 3) * 3 // 8, width - 2)
    for line in plain([Message(source, target, text, depth=2)], width=width)[1:]:
        assert [line[lane] for lane in lanes] == [UNICODE.lane] * 3
        assert len(line) == width - 1


def test_wide_characters_count_by_their_columns():
    """A terminal gives an ideograph two columns."""
    drawn = [Message(source, target, "表" * 60) for source, target in WAYS]
    assert max(line.cell_len for line in draw(drawn, width=100)) <= 100


@pytest.mark.parametrize("width", [-1, 0, 1, 20, 59])
def test_a_terminal_narrower_than_60_gets_60_columns(width):
    """Below that no lane has room for a word."""
    drawn = [Message(source, target, LONG) for source, target in WAYS]
    assert plain(drawn, width=width) == plain(drawn, width=60)


@pytest.mark.parametrize("depth", [10, 15, 40])
def test_deep_calls_can_be_drawn(depth):
    """A service that recurses is one to draw, not one to fail at."""
    lines = draw([Message(BACKEND, BACKEND, LONG, depth=depth)], width=60)
    assert max(line.cell_len for line in lines) <= 60


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_long_text_goes_on_below(source, target):
    """What was recorded is not cut off at the edge of a lane."""
    lines = plain([Message(source, target, LONG)])[1:]
    assert len(lines) > 1
    words = " ".join(lines).replace(UNICODE.lane, " ").replace(UNICODE.line, " ").split()
    assert [word for word in words if word not in (UNICODE.left, UNICODE.right)] == LONG.split()


def test_only_text_without_end_is_cut_and_says_so():
    """A hundred lines of one argument would push the flow off the screen."""
    lines = plain([Message(BACKEND, BACKEND, f"{LONG} " * 20)])
    assert len(lines) == 7
    assert "[...]" in lines[-1]


@pytest.mark.parametrize(
    ("source", "target", "between", "head"),
    [
        (FRONTEND, BACKEND, (0, 1), "right"),
        (BACKEND, FRONTEND, (0, 1), "left"),
        (BACKEND, DATABASE, (1, 2), "right"),
        (DATABASE, BACKEND, (1, 2), "left"),
    ],
)
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_an_arrow_points_to_the_lane_it_is_for(source, target, between, head, glyphs):
    """An arrow the other way would tell another story."""
    line = plain([Message(source, target, "hello")], glyphs=glyphs)[1]
    lanes = [1, 1 + 97 * 3 // 8, 98]
    assert [line[lane] for lane in lanes] == [glyphs.lane] * 3
    begin, end = (lanes[lane] for lane in between)
    arrow = line[begin + 1 : end]
    assert "hello" in arrow
    assert (arrow[-1] == glyphs.right, arrow[0] == glyphs.left) == (head == "right", head == "left")
    assert (line[:begin] + line[end + 1 :]).replace(glyphs.lane, "").strip() == ""


def test_a_note_is_indented_by_its_depth():
    """Which function called which is seen by nothing else."""
    lines = plain([Message(BACKEND, BACKEND, "outer()"), Message(BACKEND, BACKEND, "inner()", depth=1)])
    assert lines[2].index("inner") - lines[1].index("outer") == 2


def test_nothing_is_drawn_that_was_not_recorded(events, query):
    """The same words in every flow would prove nothing about this one."""
    assert len(plain([])) == 1
    broken, healthy = ("\n".join(plain(messages(events(query(code))))) for code in ("23503", None))
    for word in ("23503", "foreign_key_violation", "raises", "APIError", "500", "409"):
        assert (word in broken, word in healthy) == (True, False)
    assert ("200" in broken, "200" in healthy) == (False, True)


def test_every_message_is_drawn_once_and_in_order():
    """A line lost or drawn twice would be a flow that did not happen."""
    drawn = [Message(source, target, f"message {number}") for number, (source, target) in enumerate(WAYS * 2)]
    lines = plain(drawn)[1:]
    assert [next(word for word in line.split() if word.isdigit()) for line in lines] == list("0123456789")


@pytest.mark.parametrize(("good", "style"), [(True, "green"), (False, "bold red"), (None, "")])
def test_what_went_well_and_what_did_not_have_their_colours(good, style):
    """The eye finds the broken call first."""
    line = draw([Message(DATABASE, BACKEND, "reply", good)], width=100)[1]
    assert [str(span.style) for span in line.spans if str(span.style)] == ([style] if style else [])


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [
        ("utf-8", UNICODE),
        ("UTF8", UNICODE),
        ("utf-16", UNICODE),
        ("ascii", ASCII),
        ("iso-8859-1", ASCII),
        ("cp1252", ASCII),
        (None, ASCII),
        ("", ASCII),
        ("no-such-encoding", ASCII),
    ],
)
def test_the_glyphs_are_those_the_output_can_show(encoding, glyphs):
    """A report must not end in a UnicodeEncodeError on an old terminal."""
    assert glyphs_for(encoding) == glyphs


def test_a_diagram_in_ascii_has_no_other_character(events, query):
    """One forgotten glyph is enough to end the report."""
    assert all(line.isascii() for line in plain(messages(events(query("23503"))), glyphs=ASCII))
