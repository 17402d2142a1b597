"""What JSON does not have is turned into what it has."""

import json
from typing import Any

import numpy as np
import pytest

from laminar_tui.profile.plain import plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (np.float64("inf"), None),
        ({3: (1, 2.5)}, {"3": [1, 2.5]}),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ({"a": [{"b": -np.inf}]}, {"a": [{"b": None}]}),
        (["text", True, None, 7], ["text", True, None, 7]),
        (np.array(0.1), 0.1),
    ],
)
def test_a_value_becomes_what_json_has(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_digits_are_cut_of_what_is_not_whole() -> None:
    assert plain({"n": 123456789, "x": [1 / 3, np.array([2 / 3])]}, 6) == {"n": 123456789, "x": [0.333333, [0.666667]]}
    assert plain(1 / 3) == 1 / 3
