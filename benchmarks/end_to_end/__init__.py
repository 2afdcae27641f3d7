"""Whole models measured end to end, against projections from their own layers: what `results/projection/validation.json` holds.

    python -m benchmarks.end_to_end [--runtime torch|ort|ranks] [--size decode-16]... [--folder runs/end_to_end]
    python -m benchmarks.end_to_end --collect results/projection/validation.json

torch: OLMoE-1B-7B whole in bf16 (13.4 GB of weights, each layer its own): embedding, 16 layers, final norm, head, argmax.
ONNX Runtime: a stack of 4 of its blocks in fp32 as one graph. Ranks: one MoE layer across two gloo ranks of one thread each,
against the share's compute and the exchanges (`two_ranks`). In one process the whole pass, single blocks, single MoE layers
and single attentions take turns in random order; the singles are the whole's own layers, the first one's checked against
float64. Their times go into a record, and the projection is made from it by the code of `moemark project`. Routing in the whole
is what the gates make of the residual stream; in the singles it is planted. A size that is in the folder is not measured again.
"""
