"""Amounts of memory and time as people write and read them."""

import pytest

from laminar_tui.errors import UsageError
from laminar_tui.sizes import format_seconds, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("512MB", 512 * 10**6),
        ("512M", 512 * 10**6),
        ("16ki", 2**14),
        (".5k", 500),
        (" 2T ", 2 * 10**12),
        ("1000", 1000),
    ],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "-8GB", "8XB", "GB", "8 G B", "1e9", "nan", "0x10", "9" * 40, "9" * 400, "8GB\x1b[2J"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (63e6, "63 MB"),
        (5.64e9, "5.6 GB"),
        (999.9e6, "1.0 GB"),
        (3e15, "3,000 TB"),
    ],
)
def test_sizes_are_written_in_few_digits(size: float, expected: str) -> None:
    assert format_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "less than a second"), (40, "about 40 s"), (119, "about 119 s"), (720, "about 12 min"), (1e4, "about 3 h")],
)
def test_times_are_written_roughly(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected
