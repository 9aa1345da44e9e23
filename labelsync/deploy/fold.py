"""Constants in the place of what a graph computes from its weights alone.

Such are the matrices of a SegFormer's head (see `model/segformer.py`). The exporter's own optimiser leaves what is
larger than a few kilobytes; onnxruntime folds it at every start, and its quantiser takes only weights that are there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def folded(proto: "ModelProto") -> "ModelProto":
    """The same graph, changed in place; weights that nothing reads any more are dropped."""
    from onnx import numpy_helper

    graph = proto.graph
    known: dict[str, Any] = {t.name: t for t in graph.initializer}
    made: dict[str, Any] = {}
    kept: list[NodeProto] = []
    for node in graph.node:  # in an order in which inputs come before what is made of them
        inputs = [name for name in node.input if name]
        if inputs and all(name in known or name in made for name in inputs):
            given = {n: made[n] if n in made else numpy_helper.to_array(known[n]) for n in inputs}
            made |= zip(node.output, _computed(proto, node, given), strict=True)
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input} | {o.name for o in graph.output}
    weights = [t for t in graph.initializer if t.name in read]
    weights += [numpy_helper.from_array(array, name) for name, array in made.items() if name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    return proto


def _computed(proto: "ModelProto", node: "NodeProto", given: dict[str, Any]) -> list[Any]:
    """The outputs of one node, by onnx's reference implementation of the operators."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    inputs, outputs = ([helper.make_empty_tensor_value_info(n) for n in names] for names in (given, node.output))
    alone = helper.make_model(helper.make_graph([node], "one", inputs, outputs), opset_imports=proto.opset_import)
    return list(ReferenceEvaluator(alone).run(None, given))
