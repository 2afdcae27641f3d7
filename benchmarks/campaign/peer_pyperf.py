"""What a user of pyperf writes."""

from __future__ import annotations

import pyperf

from benchmarks.campaign.peer_case import prepared_call

if __name__ == "__main__":
    pyperf.Runner().bench_func("case", prepared_call())
