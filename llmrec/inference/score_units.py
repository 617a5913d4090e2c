"""Units of scores, and numbers in them as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llmrec.utils.rounding import round_to_total

ScoreUnit: TypeAlias = Literal["log_probability", "logit", "cosine"]
UNIT_HEADS: dict[ScoreUnit, str] = {
    "log_probability": "chance of being next",
    "logit": "score (log-odds)",
    "cosine": "cosine",
}
MAX_DECIMALS = 6  # of a chance in percent


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """Format of numbers that are compared or added: percent of a chance, or plain numbers."""

    scale: float
    """Factor from a number to the one that is printed."""
    decimals: int
    """Digits after the decimal point."""
    suffix: str
    """Text after the number."""

    @classmethod
    def from_total(cls, total: float, unit: ScoreUnit) -> NumberFormat:
        """Choose a format by the largest or most important number.

        Args:
            total: A chance for `log_probability`, else a score.
            unit: Unit of scores.

        Returns:
            Percent with two decimals, or two significant digits of a small chance; three decimals of other scores.
        """
        if unit != "log_probability":
            return cls(1.0, 3, "")
        leading = math.floor(math.log10(100 * total)) if total > 0 else 0
        return cls(100.0, min(max(2, 1 - leading), MAX_DECIMALS), "%")

    def format(self, number: float, *, signed: bool = False) -> str:
        """Format a number.

        Args:
            number: A chance or a score, or a part of one.
            signed: Print the plus sign of a number that is not negative.

        Returns:
            The number as text.
        """
        return f"{self.scale * number:{'+' if signed else ''}.{self.decimals}f}{self.suffix}"

    def round(self, parts: Sequence[float], total: float) -> list[float]:
        """Round parts so that they add up to their total as printed.

        Args:
            parts: Chances or scores.
            total: Their sum.

        Returns:
            Rounded parts, on the same scale.
        """
        rounded = round_to_total([self.scale * part for part in parts], self.scale * total, self.decimals)
        return [number / self.scale for number in rounded]


def format_score(score: float, unit: ScoreUnit) -> str:
    """Format a score: the chance of being next in percent for a log-probability, else a number.

    Args:
        score: Score of an item.
        unit: Unit of the score.

    Returns:
        The score as text.

    Example:
        >>> format_score(-3.0, "log_probability"), format_score(-10.0, "log_probability"), format_score(-3.0, "logit")
        ('4.98%', '0.0045%', '-3.000')
    """
    number = math.exp(score) if unit == "log_probability" else score
    return NumberFormat.from_total(number, unit).format(number)
