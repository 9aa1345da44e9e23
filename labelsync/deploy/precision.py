"""A float32 graph in fewer bits: float16 throughout, or 8-bit integers where the time and the weights are."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from labelsync.deploy.graph import quietly
from labelsync.errors import ModelError, first_line
from labelsync.model.onnx import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto


def to_fp16(proto: "ModelProto") -> "ModelProto":
    """Weights and arithmetic in float16; inputs and outputs stay as they are.

    For GPUs and for files of half the size: a CPU computes in float32 between casts, and is not faster.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quietly():
        converted: ModelProto = convert_float_to_float16(proto, keep_io_types=True)
    return converted


def to_int8(proto: "ModelProto", inputs: Iterable[npt.NDArray[Any]]) -> "ModelProto":
    """Weights and inputs of convolutions and linear layers as 8-bit integers (QuantizeLinear/DequantizeLinear pairs).

    Per channel, with ranges from the least to the largest value that `inputs` give. Products of two activations, which
    is attention, stay float: their probabilities are mostly far below 1/255 and would be lost (of the pixels of a
    SegFormer on CamVid, 2 % changed class with attention in 8 bits, 0.4 % without).

    Args:
        inputs: what the graph takes, image by image.

    Raises:
        ModelError: onnxruntime cannot quantise the graph.
    """
    from onnxruntime import quantization

    weights = {tensor.name for tensor in proto.graph.initializer}
    chosen = [
        node.name
        for node in proto.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and weights & {node.input[0], node.input[1]}
    ]
    with tempfile.TemporaryDirectory(prefix="labelsync-") as folder, quietly():
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(serialized(proto))
        try:
            quantization.quantize_static(
                str(before),
                str(after),
                _Reader(inputs),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=chosen,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            )
        except Exception as e:  # noqa: BLE001 - it fails in any way
            raise ModelError(f"the graph cannot be quantised ({first_line(e)})", hint="leave out --quantize") from None
        quantised = read(after.read_bytes())
    del quantised.metadata_props[:]
    del quantised.graph.value_info[:]
    quantised.producer_name, quantised.producer_version = proto.producer_name, proto.producer_version
    return quantised


def with_metadata(proto: "ModelProto", metadata: Mapping[str, str]) -> "ModelProto":
    """The graph with its file's metadata, in their order."""
    del proto.metadata_props[:]
    for name, text in metadata.items():
        proto.metadata_props.add(key=name, value=text)
    return proto


def serialized(proto: "ModelProto") -> bytes:
    """The same graph as the same bytes."""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def read(data: bytes) -> "ModelProto":
    """The graph of `serialized`."""
    import onnx

    return onnx.load_model_from_string(data)


class _Reader:
    """Inputs as onnxruntime's calibration asks for them, one by one until None."""

    def __init__(self, inputs: Iterable[npt.NDArray[Any]]) -> None:
        self._inputs: Iterator[npt.NDArray[Any]] = iter(inputs)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        array = next(self._inputs, None)
        return None if array is None else {INPUT: array}
