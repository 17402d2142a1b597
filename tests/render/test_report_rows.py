"""The report as rows: all of its sentences, tables under one another, nothing cut in prose, nothing harmful."""

import re
from dataclasses import replace
from typing import Any

import pytest
from golden_text import assert_golden, text_of

from laminar_tui.profile.file import read_profile
from laminar_tui.profile.merge import ProfileSums
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.render.report import chapters, report_rows
from laminar_tui.render.rows import row_text, row_width
from laminar_tui.run import SAMPLE_PROFILE


@pytest.fixture(scope="module")
def profile(small_profile: Profile) -> Profile:
    return small_profile


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
def test_a_report_is_written_as_it_was(profile: Profile, ascii_only: bool) -> None:
    made = make_report(profile)
    uniform = tuple(each for each in made.chance if each.null == "uniform attention")
    sentences = ("Below 0.01 are 21.2 % in the first third (n = 33), 72.7 % in the last. " * 2, "Key 0 ('· a') is one.")
    report = replace(made, chapters={"1. First?": sentences, "2. Second?": sentences[1:]}, chance=uniform)
    rows = report_rows(report, 80, ascii_only=ascii_only)
    assert {row_width(row) for row in rows} == {80}
    assert not ascii_only or text_of(rows).isascii()
    assert_golden(f"report_80{'_ascii' if ascii_only else ''}", rows)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_sentence_is_there_whole(profile: Profile, width: int) -> None:
    report = make_report(profile)
    text = " ".join(text_of(report_rows(report, width)).split())
    for sentence in report.sentences:
        plain = " ".join(sentence.replace("\x1b", "␛").split())
        assert plain in text or "\\x" in plain
    assert all(title in text for title in report.chapters)


@pytest.mark.parametrize("width", [80, 160])
def test_the_tables_of_a_real_model_are_not_cut_off(width: int) -> None:
    """What chance gives, and how many times that the model has, are the last columns."""
    rows = [row_text(row).rstrip() for row in report_rows(make_report(read_profile(SAMPLE_PROFILE)), width)]
    head = next(at for at, row in enumerate(rows) if row.startswith(" weights"))
    assert rows[head].endswith("lift")
    table = rows[head : rows.index("", head)]
    assert len(table) == 1 + 21
    assert not [row for row in table if row.endswith("…")]


def test_chapters_begin_where_their_titles_stand(profile: Profile) -> None:
    report = make_report(profile)
    rows = report_rows(report, 80)
    titles = [row_text(rows[at]).strip() for at in chapters(rows)[1:]]
    assert titles[: len(report.chapters)] == list(report.chapters)
    assert titles[-1] == "What it does not say"


def test_what_came_from_outside_is_harmless(profile: Profile) -> None:
    tokens = ("\x1b[31m", "\u202e", "[/bold]", "\n", *profile.origin.tokens[4:])
    hostile = replace(profile, origin=replace(profile.origin, model="\x1b]52;c;aGk=\x07", tokens=tokens))
    text = "".join(row_text(row) for row in report_rows(make_report(hostile), 100))
    assert not [c for c in text if c < " " or c in "\x7f\u202e" or "\x80" <= c < "\xa0"]


def test_wide_characters_are_counted_as_they_are(profile: Profile) -> None:
    tokens = ("漢字" * 6, *profile.origin.tokens[1:])
    wide = make_report(replace(profile, origin=replace(profile.origin, tokens=tokens)))
    rows = [row_text(row) for row in report_rows(wide, 80)]
    prose = rows[: next(at for at, row in enumerate(rows) if row.startswith(" Shares of small"))]
    assert any("漢字" in row for row in prose)
    assert not any("…" in row for row in prose)


def test_lifts_over_several_prompts_have_their_interval_where_there_is_room(patterns: Any, make_profile: Any) -> None:
    sums = ProfileSums()
    for n in range(9):
        sums.add(make_profile([patterns(n, 4, 30 + n, 2.5), patterns(n + 50, 4, 30 + n, 2.0)]), n)
    report = make_report(sums.profile("c"))
    wide, narrow = (text_of(report_rows(report, width)) for width in (160, 80))
    assert re.search(r" past +0-0 .* [\d.]+ \[[\d.]+ to [\d.]+\]", wide)
    table = narrow[narrow.index(" Shares of small") :]
    assert "lift" in table
    assert "[" not in table
    assert "…" not in narrow
