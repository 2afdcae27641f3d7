"""From measured layers to a whole model on one device of a group: tokens/s, TTFT, TPOT, $/Mtok and J/token.

The way: `anatomy` (every step of a pass) > `times` (what the records hold of a target) > `terms` (each step's time: measured,
interpolated, modelled, missing) > `whole` (their sum, bounds, money and energy) > `tables`.
"""
