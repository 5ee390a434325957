"""Colours of figures: series that colour-blind readers tell apart, and a ramp from worst to best."""

from __future__ import annotations

# after Okabe and Ito, "Color universal design", without the yellow that white paper swallows; lighter on dark pages
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5195", "#c0392b", "#4d4d4d", "#8a8a8a")
DARK_SERIES = ("#56b4e9", "#ff9e4a", "#35c9a0", "#e8a3c8", "#b79adf", "#ff7b6b", "#c8c8c8", "#8f8f8f")
# from worst to best: pale to strong on white, dim to bright on black
RAMP = ("#d9dee8", "#c2cfe4", "#a6bfe0", "#86addb", "#6399d3", "#4183c4", "#2a6bac", "#1b5290", "#113a70", "#0a2450")
DARK_RAMP = (
    "#2b323d",
    "#2f4258",
    "#335573",
    "#38698e",
    "#3f7fa9",
    "#4b96c1",
    "#61aed4",
    "#82c5e3",
    "#a9daef",
    "#d6effa",
)


def faded(colour: str, opacity: float) -> str:
    """A colour with an opacity.

    >>> faded("#0072b2", 0.2)
    'rgba(0, 114, 178, 0.2)'
    """
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def variables() -> tuple[str, str]:
    """The colours as CSS variables for light and for dark pages: ``--s0`` ... and ``--q0`` ..."""
    pairs = ((SERIES, RAMP), (DARK_SERIES, DARK_RAMP))
    light, dark = (
        "; ".join([f"--s{k}: {c}" for k, c in enumerate(s)] + [f"--q{k}: {c}" for k, c in enumerate(q)])
        for s, q in pairs
    )
    return light, dark
