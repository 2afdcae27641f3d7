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
    """Inner width of one routed expert."""
    shared_inner: int = 0
    dense_inner: int = 0
    latent: int = 0
    """What routed experts read and write, where that is not H."""
    matrices: int = 3
    """Of one FFN: gate, up and down; 2 without a gate."""
    zero_experts: int = 0
    """Identity experts, the last of the E; on no rank."""
    hashed: bool = False
    """Whether a table of token ids selects the experts."""
    mixer: int = 0
    """Which of the model's token mixers attends."""
    context: int = 0
    """Positions in each sequence's cache, of a decode; 0: a prefill."""
    attended: int = 0
    """Longest sum that attention makes: over the heads of an output, or over positions."""

    scores: int = 0
    """Elements of all heads' scores at once: every query with every key, those not attended to too."""

    @property
    def real_experts(self) -> int:
        """Experts that compute, of the whole group."""
        return self.num_experts - self.zero_experts

    @property
    def is_share(self) -> bool:
        """Whether this rank has some of the experts only."""
        return self.local_experts < self.real_experts

    def width(self, name: str) -> int:
        """Inner width of the FFN stack `experts`, `shared` or `dense`."""
        return {"experts": self.inner, "shared": self.shared_inner, "dense": self.dense_inner}[name]

    @property
    def expert_hidden(self) -> int:
        """What routed experts read and write: the latent size, or H."""
        return self.latent or self.hidden

    def ffn_hidden(self, name: str) -> int:
        """What the FFNs of a stack read and write."""
        return self.expert_hidden if name == "experts" else self.hidden

    def ffn_flops(self, name: str) -> float:
        """Useful FLOPs of one FFN of a stack: 2 * matrices * H (or latent) * width * lines, experts at their mean load."""
        lines = self.assignments / max(1, self.local_experts) if name == "experts" else self.tokens
        return 2.0 * self.matrices * self.ffn_hidden(name) * self.width(name) * lines

    @property
    def router_flops(self) -> float:
        """2 * H * E * T."""
        return 2.0 * self.hidden * self.num_experts * self.tokens

    @property
    def projection_flops(self) -> float:
        """2 * H * latent * T: of each of the two latent projections."""
        return 2.0 * self.hidden * self.latent * self.tokens

    @property
    def flops(self) -> int:
        """Useful FLOPs of the call (design, section 4); norms and gates of one column are not counted."""
        stacks = self.ffn_flops("experts") * self.local_experts + self.ffn_flops("shared") + self.ffn_flops("dense")
        return round(stacks + self.router_flops + 2 * self.projection_flops)

    def tiny(self, step: int = 1) -> Sizes:
        """The same structure with small matrices, widths multiples of `step`: for asking a runtime about each node."""
        width = max(8, step)
        return replace(
            self,
            hidden=2 * width,
            inner=width if self.inner else 0,
            shared_inner=width if self.shared_inner else 0,
            dense_inner=width if self.dense_inner else 0,
            latent=width if self.latent else 0,
            context=min(self.context, 8),
        )
