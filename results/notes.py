"""Long texts under a table, referred to as [1], [2], ... in its cells."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Notes"]


@dataclass
class Notes:
    """Each text once, numbered in the order in which it was first asked for."""

    numbers: dict[str, int] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        """The reference to a text."""
        return f"[{self.numbers.setdefault(text, len(self.numbers) + 1)}]"

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts, in the order of their numbers."""
        return tuple(self.numbers)
