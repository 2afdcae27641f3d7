"""Documents are what the code says, and another program can make the same digests."""

from __future__ import annotations

import hashlib
import json

import pytest

from results.documenting import DOCS, documents
from results.verify import RULES


@pytest.mark.parametrize("name", documents())
def test_a_document_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == documents()[name], "run: python -m results.documenting"


def test_every_figure_of_a_ranking_is_among_the_documented() -> None:
    text = documents()["metrics.md"]
    assert all(
        f"**`{name}(" in text for name in ("tokens_per_joule", "tokens_per_s_per_tdp_w", "usd_per_million_tokens")
    )


def test_the_vectors_need_nothing_of_ours() -> None:
    previous = ""
    for vector in json.loads((DOCS / "record-vectors.json").read_text()):
        previous = hashlib.sha256((vector["canonical"] + previous).encode()).hexdigest()
        assert previous == vector["line_sha256"]
        assert json.loads(vector["canonical"]) == vector["line"]


def test_the_first_vectors_are_pinned() -> None:
    """A change of these changes every record that there is."""
    first = documents()["record-vectors.json"]
    assert '{\\"B\\":null,\\"a\\":[1,2.0,0.1,1e-05,1e+16,-0.0],\\"b\\":1,\\"kind\\":\\"run\\"}' in first


def test_every_rule_says_what_must_hold() -> None:
    assert all((rule.__doc__ or "").strip() for rule in RULES.values())
