"""The same few operations on NumPy, torch and ONNX, so that a routing rule or an activation is one function.

Each backend has the methods listed in `OPERATIONS`; values are arrays, tensors or names of ONNX values. Scores have the
shape [T, E]; "last" means along the last axis.
"""

__all__ = ["OPERATIONS"]

OPERATIONS = (
    "add",
    "mul",
    "div",
    "sqrt",
    "tanh",
    "sigmoid",
    "silu",
    "gelu_tanh",
    "relu",
    "softplus",
    "softmax",
    "at_most",
    "clamp",
    "top",
    "top_values",
    "take",
    "total",
    "largest",
    "sub",
    "of_ids",
    "beside",
    "absolute",
    "maximum",
    "masked_beyond",
    "without",
    "from_groups",
    "split_groups",
    "join_groups",
    "only_groups",
    "in_fp32",
)
