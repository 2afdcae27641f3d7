"""The sizes of one call that implementations work with, apart from the model's rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of one call: T own tokens, R rows, A assignments, H hidden, E experts, k per token."""

    tokens: int
    hidden: int
    num_experts: int = 0
    experts_per_token: int = 0
    rows: int = 0
    assignments: int = 0
    local_experts: int = 0
    inner: int = 0
    """Width of one routed expert."""
    shared_inner: int = 0
    dense_inner: int = 0

    def width(self, name: str) -> int:
        """Inner width of the FFN stack `experts`, `shared` or `dense`."""
        return {"experts": self.inner, "shared": self.shared_inner, "dense": self.dense_inner}[name]

    def ffn_flops(self, name: str) -> float:
        """Useful FLOPs of one FFN of a stack: 2 * 3 * H * width * lines, experts at their mean load."""
        lines = self.assignments / max(1, self.local_experts) if name == "experts" else self.tokens
        return 6.0 * self.hidden * self.width(name) * lines

    @property
    def router_flops(self) -> float:
        """2 * H * E * T."""
        return 2.0 * self.hidden * self.num_experts * self.tokens

    @property
    def flops(self) -> int:
        """Useful FLOPs of the call (design, section 4)."""
        stacks = self.ffn_flops("experts") * self.local_experts + self.ffn_flops("shared") + self.ffn_flops("dense")
        return round(stacks + self.router_flops)

    def tiny(self, step: int = 1) -> Sizes:
        """The same structure with small matrices, widths multiples of `step`: for asking a runtime about each node."""
        width = max(8, step)
        return replace(
            self,
            hidden=2 * width,
            inner=width if self.inner else 0,
            shared_inner=width if self.shared_inner else 0,
            dense_inner=width if self.dense_inner else 0,
        )
