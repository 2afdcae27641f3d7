"""The chain of digests: what `line_sha256` of a line is. Another program that follows this makes the same digests.

Canonical JSON of a line, without the key `line_sha256`: keys sorted by code point, no spaces, UTF-8, only `"`, `\\` and control
characters escaped, integers as they are, other numbers as the shortest decimal that reads back as the same double, in Python's
form (`0.1`, `1e-05`, `1e+16`). The digest is the SHA-256 (hex) of these bytes followed by the previous line's digest in hex;
nothing follows those of the first line. A changed, lost or moved line breaks the chain. It shows edits, not forgery: whoever
rewrites the rest of the file can rewrite the digests too.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["DIGEST", "canonical", "link"]

DIGEST = "line_sha256"


def canonical(line: dict[str, Any]) -> str:
    """Canonical JSON of a line. Raises ValueError for NaN and infinities, which JSON has not."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(body: str, previous: str) -> str:
    """The digest of a line's canonical JSON after a line with that digest. Raises UnicodeEncodeError for what is no Unicode."""
    return hashlib.sha256((body + previous).encode()).hexdigest()
