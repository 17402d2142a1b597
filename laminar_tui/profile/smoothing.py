"""Rows of an axis convolved with Gaussians of any width, by a multiplication in the Fourier domain.

A row is laid on a circle that its kernel does not reach around: a short one where the kernel is narrow. Reflection at
both ends is the even extension of the row, so mass is kept to rounding.
"""

import numpy as np
from numpy.typing import NDArray

_REACH = 9.0
"""Widths of a kernel beyond which nothing is left of it: exp(-40) is below a float64's last digit."""
_CIRCLES = (5, 6, 8)
"""Lengths of the circles to convolve on, in quarters of the axis; all have small factors."""
ROWS_AT_ONCE = 64
"""Rows that are transformed together."""


def smooth_rows(shares: NDArray[np.float64], width: NDArray[np.float64], *, reflect: bool) -> NDArray[np.float64]:
    """Convolve with a Gaussian of a standard deviation given in nodes; values per node.

    Args:
        shares: [..., n_cells + 1].
        width: [...], in nodes.
        reflect: fold what leaves the axis back at its ends; otherwise it is lost.
    """
    n_cells = shares.shape[-1] - 1
    rows, widths = shares.reshape(-1, n_cells + 1), width.reshape(-1, 1)
    smooth = np.empty_like(rows)
    # A row's circle depends on its own kernel alone, so that it is smoothed the same in any company.
    reach = np.ceil(_REACH * widths[:, 0]).astype(np.int64)
    wanted = n_cells + 1 + (2 * reach if reflect else reach)
    sizes = n_cells * np.array(_CIRCLES) // 4
    circles = np.append(sizes, 0)[np.searchsorted(sizes, wanted)]
    for period in np.unique(circles):
        places = np.flatnonzero(circles == period)
        for start in range(0, len(places), ROWS_AT_ONCE):
            some = places[start : start + ROWS_AT_ONCE]
            smooth[some] = _convolve(rows[some], widths[some], int(period), reflect=reflect)
    return np.maximum(smooth, 0.0).reshape(shares.shape)  # rounding leaves -1e-19 where there is nothing


def _convolve(
    rows: NDArray[np.float64], widths: NDArray[np.float64], period: int, *, reflect: bool
) -> NDArray[np.float64]:
    """Convolve [n, n_cells + 1] with Gaussians of widths [n, 1].

    Args:
        period: nodes of a circle on which no kernel reaches around; 0 if they are too wide for a short one.
    """
    n_cells = rows.shape[1] - 1
    if period == 0 and reflect:
        both = np.concatenate([rows, rows[:, n_cells - 1 : 0 : -1]], axis=1)  # there and back, any number of times
        both[:, [0, n_cells]] *= 2
        return np.fft.irfft(np.fft.rfft(both) * _spectrum(2 * n_cells, widths))[:, : n_cells + 1]
    period = period or 4 * n_cells  # Scott's bandwidth is at most half the axis
    line = np.fft.irfft(np.fft.rfft(rows, n=period) * _spectrum(period, widths), n=period)
    smooth = line[:, : n_cells + 1].copy()
    if reflect:
        reach = (period - n_cells - 1) // 2
        smooth[:, 0] += line[:, 0]
        smooth[:, 1 : reach + 1] += line[:, : -reach - 1 : -1]
        smooth[:, n_cells - reach :] += line[:, n_cells + reach : n_cells - 1 : -1]
    return smooth


def _spectrum(period: int, widths: NDArray[np.float64]) -> NDArray[np.float64]:
    frequency = np.arange(period // 2 + 1) * (2 * np.pi / period)
    spectrum: NDArray[np.float64] = np.exp(-0.5 * (frequency * widths) ** 2)
    return spectrum
