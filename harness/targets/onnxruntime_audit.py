"""The audit of ONNX Runtime: where every node ran, and in which precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from harness.targets import Unsupported
from results.record import Placement
from workloads.backends.onnx_ops import Graph

__all__ = ["inserted_casts", "placement_of"]

NAMED = 8
"""Stray nodes that a message names."""


def placement_of(session: Any, graph: Graph, provider: str) -> Placement:
    """Where the runtime put each node of the graph.

    Raises Unsupported, with the placement, if a node with FLOPs or token data left the provider.
    """
    placed: dict[str, str] = {}
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            placed[node.name] = part.ep_name
    strays = sorted(name for name, where in placed.items() if where != provider)
    casts = [node.name for node in graph.nodes if node.op_type == "Cast"]
    flops = sum(graph.matmul_flops.values())
    found = Placement(
        device=provider,
        nodes=len(placed),
        nodes_on_target=len(placed) - len(strays),
        flops_on_target=1.0 - _flops_of(strays, graph) / flops if flops else 1.0,
        strays=strays,
        casts=casts if graph.dtype != "fp32" else [],
        note=graph.note,
    )
    computing = [name for name in strays if not _host_arithmetic(name, graph)]
    if computing:
        shown = ", ".join(computing[:NAMED]) + (" ..." if len(computing) > NAMED else "")
        reason = f"{len(computing)} of {len(placed)} nodes did not run on {provider}: {shown}"
        raise Unsupported(reason, found)
    return found


def _flops_of(names: Iterable[str], graph: Graph) -> float:
    """Useful FLOPs of these nodes; a node that took another in (MatMul_7/MatMulAddFusion) keeps its name in front."""
    return sum(graph.matmul_flops.get(name.partition("/")[0], 0.0) for name in names)


def _host_arithmetic(name: str, graph: Graph) -> bool:
    """True for nodes that only compute shapes or counts, which a runtime may keep on the host: all outputs tiny integers."""
    node = next((node for node in graph.nodes if node.name == name), None)
    return node is not None and node.op_type in ("Shape", "Size")


def inserted_casts(graph: Graph, optimised: onnx.ModelProto) -> list[str]:
    """Casts in the optimised model that the graph did not ask for, as the nodes whose input or output they convert."""
    own = {node.name for node in graph.nodes}
    added = [node for node in optimised.graph.node if node.op_type == "Cast" and node.name not in own]
    readers = {value: node.name for node in optimised.graph.node if node.op_type != "Cast" for value in node.input}
    named = dict.fromkeys(readers.get(node.output[0], node.name) for node in added)
    return list(named)[:NAMED]
