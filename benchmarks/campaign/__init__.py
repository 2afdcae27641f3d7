"""How well moemark's decisions hold on this machine, beside the tools that people use today: `make campaign`.

Read `matrix` (what is tried, in which order), `duels` (live decisions), `peers` (other tools, run for real), `replay` (many
decisions from recorded turns), `summary` (the table). Every trial is a file in the output folder, so that a campaign that was
interrupted goes on where it stopped.
"""
