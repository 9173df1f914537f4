"""The Open Inference Protocol v2, with the client that most people use for it, and by hand where that one is too polite."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from http_calls import ask, gateway, listening, post, protocol_refusal
from small_system import MIXED, NUMERIC, RICH, SmallSystem
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from actors.learning.schema import LabelType, Schema
from actors.learning.task import TaskKind

INFER = "/v2/models/small/infer"
REGRESSION = {"schema": NUMERIC, "task": TaskKind.REGRESSION}


@contextmanager
def client_of(system: SmallSystem) -> Iterator[InferenceServerClient]:
    with listening(gateway(system)) as address:
        client = InferenceServerClient(address)
        try:
            yield client
        finally:
            client.close()


def tensor(name: str, values: np.ndarray, datatype: str, is_binary: bool = True) -> InferInput:
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=is_binary)
    return made


def mixed_inputs(is_binary: bool = True) -> list[InferInput]:
    return [
        tensor("age", np.array([41.0, np.nan if is_binary else 30.0], np.float32), "FP32", is_binary),
        tensor("amount", np.array([[50], [5]], np.int64), "INT64", is_binary),
        tensor("country", np.array(["DE", "Österreich"], object), "BYTES", is_binary),
    ]


def test_the_client_finds_server_and_model():
    with client_of(SmallSystem()) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("small")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        metadata = client.get_model_metadata("small")
        assert metadata["versions"] == ["1"]
        assert metadata["inputs"] == [
            {"name": "age", "datatype": "FP64", "shape": [-1]},
            {"name": "amount", "datatype": "FP64", "shape": [-1]},
            {"name": "country", "datatype": "BYTES", "shape": [-1]},
        ]
        assert metadata["outputs"] == [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ]


def test_before_the_first_version_the_server_lives_and_is_not_ready():
    with client_of(SmallSystem(production=None)) as client:
        assert client.is_server_live()
        assert not client.is_server_ready() and not client.is_model_ready("small")
        with pytest.raises(InferenceServerException) as caught:
            client.infer("small", mixed_inputs())
        assert caught.value.status() == "503"


@pytest.mark.parametrize("is_binary_in", [True, False])
@pytest.mark.parametrize("is_binary_out", [True, False, None])
def test_the_client_infers_in_json_and_in_binary(is_binary_in, is_binary_out):
    names = ("prediction", "probabilities")
    outputs = None if is_binary_out is None else [InferRequestedOutput(name, binary_data=is_binary_out) for name in names]
    with client_of(SmallSystem()) as client:
        result = client.infer("small", mixed_inputs(is_binary_in), outputs=outputs)
    # As JSON strings stay strings; as bytes the client leaves them encoded.
    predictions = [p.decode() if isinstance(p, bytes) else p for p in result.as_numpy("prediction").tolist()]
    assert predictions == ["fraud", "genuine"]
    probability_NK = result.as_numpy("probabilities")
    assert probability_NK.dtype == np.float32
    np.testing.assert_array_equal(probability_NK, [[0.75, 0.25], [0.25, 0.75]])
    assert result.get_output("probabilities")["parameters"]["classes"] == ["fraud", "genuine"]
    assert result.get_response()["model_version"] == "1"


def test_the_features_arrive_as_they_would_in_json():
    system = SmallSystem()
    with client_of(system) as client:
        result = client.infer("small", mixed_inputs())
    ids = result.get_response()["parameters"]["request_ids"]
    assert [system.requests[name] for name in ids] == [
        {"age": 41.0, "amount": 50, "country": "DE"},
        {"age": None, "amount": 5, "country": "Österreich"},
    ]


def test_the_id_of_a_single_row_is_its_request_id():
    system = SmallSystem(**REGRESSION)
    with client_of(system) as client:
        result = client.infer("small", [tensor("x", np.array([[1.5, 2.0]]), "FP64")], request_id="order 7")
    assert result.get_response()["id"] == "order 7"
    assert system.requests == {"order 7": {"a": 1.5, "b": 2.0}}


@pytest.mark.parametrize(
    "dtype, datatype", [(np.float16, "FP16"), (np.float32, "FP32"), (np.float64, "FP64"), (np.int8, "INT8")]
)
@pytest.mark.parametrize("is_binary", [True, False])
def test_numeric_columns_may_come_as_one_matrix(dtype, datatype, is_binary):
    if datatype == "FP16" and not is_binary:
        pytest.skip("the client sends half precision as bytes only")
    x_ND = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    with client_of(SmallSystem(**REGRESSION)) as client:
        result = client.infer("small", [tensor("x", x_ND, datatype, is_binary)])
    prediction_N = result.as_numpy("prediction")
    assert prediction_N.dtype == np.float64
    np.testing.assert_array_equal(prediction_N, [4.0, 8.0, 12.0])
    assert result.as_numpy("probabilities") is None


@pytest.mark.parametrize(
    "label_type, dtype, expected", [(LabelType.INTEGER, np.int64, [1, 0]), (LabelType.BOOLEAN, np.bool_, [True, False])]
)
@pytest.mark.parametrize("is_binary", [True, False])
def test_vectors_and_text_go_in_and_classes_come_out_in_their_own_type(label_type, dtype, expected, is_binary):
    system = SmallSystem(schema=Schema(RICH.columns, "label", label_type))
    inputs = [
        tensor("note", np.array(["", "late"], object), "BYTES", is_binary),
        tensor("place", np.array([[1, 2], [3, 4]], np.float32), "FP32", is_binary),
        tensor("amount", np.array([11, 10], np.float64), "FP64", is_binary),
    ]
    with client_of(system) as client:
        result = client.infer("small", inputs, outputs=[InferRequestedOutput("prediction", binary_data=is_binary)])
    prediction_N = result.as_numpy("prediction")
    assert prediction_N.dtype == dtype and prediction_N.tolist() == expected
    assert result.as_numpy("probabilities") is None  # it was not asked for
    assert [features["place"] for features in system.requests.values()] == [[1.0, 2.0], [3.0, 4.0]]


def column(name: str, values: list, datatype: str = "FP64", shape: list | None = None) -> dict:
    return {"name": name, "datatype": datatype, "shape": [len(values)] if shape is None else shape, "data": values}


def row(**changes) -> list[dict]:
    """Inputs of one row, with some of them changed, or left out (None)."""
    inputs = {"age": column("age", [41]), "amount": column("amount", [50]), "country": column("country", ["DE"], "BYTES")}
    return [value for value in {**inputs, **changes}.values() if value is not None]


def test_null_is_a_missing_value_and_nested_lists_are_flattened():
    system = SmallSystem()
    inputs = row(age=column("age", [[None]], "FP64", [1, 1]), country=column("country", [None], "BYTES"))
    assert post(gateway(system), INFER, {"inputs": inputs}).status_code == 200
    assert list(system.requests.values()) == [{"age": None, "amount": 50, "country": None}]


MALFORMED = {
    "no inputs": ({}, 422, "missing_field", "inputs"),
    "inputs an object": ({"inputs": {}}, 422, "wrong_type", "inputs"),
    "inputs empty": ({"inputs": []}, 422, "wrong_value", "inputs"),
    "input a string": ({"inputs": ["age"]}, 422, "wrong_type", "inputs[0]"),
    "no name": ({"inputs": [{"datatype": "FP64", "shape": [1], "data": [1]}]}, 422, "missing_field", "inputs[0].name"),
    "no data": ({"inputs": [{"name": "age", "datatype": "FP64", "shape": [1]}]}, 422, "missing_field", "inputs[0].data"),
    "name a number": ({"inputs": [{**column("age", [1]), "name": 1}]}, 422, "wrong_type", "inputs[0].name"),
    "unknown datatype": ({"inputs": [column("age", [1], "FP128")]}, 422, "wrong_value", "inputs[0].datatype"),
    "datatype a list": ({"inputs": [{**column("age", [1]), "datatype": []}]}, 422, "wrong_value", "inputs[0].datatype"),
    "shape a number": ({"inputs": [{**column("age", [1]), "shape": 1}]}, 422, "wrong_value", "inputs[0].shape"),
    "shape empty": ({"inputs": [{**column("age", [1]), "shape": []}]}, 422, "wrong_value", "inputs[0].shape"),
    "shape negative": ({"inputs": [column("age", [1], shape=[-1])]}, 422, "wrong_value", "inputs[0].shape"),
    "shape of booleans": ({"inputs": [column("age", [1], shape=[True])]}, 422, "wrong_value", "inputs[0].shape"),
    "shape and data differ": ({"inputs": [column("age", [1, 2], shape=[3])]}, 422, "wrong_value", "inputs[0].data"),
    "shape beyond measure": ({"inputs": [column("age", [1], shape=[10**200])]}, 422, "wrong_value", "inputs[0].data"),
    "no rows": ({"inputs": [column("age", [])]}, 422, "wrong_value", "inputs[0].shape"),
    "too many rows": ({"inputs": [column("age", [1] * 5)]}, 413, "too_many", "inputs"),
    "data a string": ({"inputs": [{**column("age", [1]), "data": "1"}]}, 422, "wrong_type", "inputs[0].data"),
    "a string as a number": ({"inputs": row(age=column("age", ["41"]))}, 422, "wrong_value", "inputs[0].data"),
    "a number as a string": ({"inputs": row(age=column("age", [41], "BYTES"))}, 422, "wrong_value", "inputs[0].data"),
    "a fraction as an integer": ({"inputs": row(age=column("age", [1.5], "INT64"))}, 422, "wrong_value", "inputs[0].data"),
    "an integer too large": ({"inputs": row(age=column("age", [128], "INT8"))}, 422, "wrong_value", "inputs[0].data"),
    "a boolean as a number": ({"inputs": row(age=column("age", [True]))}, 422, "wrong_value", "inputs[0].data"),
    "deeper than its shape": ({"inputs": row(age=column("age", [[[41]]], shape=[1, 1]))}, 422, "wrong_value", "inputs[0].data"),
    "lists and values": ({"inputs": row(age=column("age", [[41], 4], shape=[1, 2]))}, 422, "wrong_value", "inputs[0].data"),
    "bytes for a number": ({"inputs": row(age=column("age", ["41"], "BYTES"))}, 422, "wrong_value", "inputs.age"),
    "another number of rows": ({"inputs": row(amount=column("amount", [1, 2]))}, 422, "wrong_value", "inputs.amount"),
    "a matrix for a column": ({"inputs": row(age=column("age", [1, 2], shape=[1, 2]))}, 422, "wrong_value", "inputs.age"),
    "a column missing": ({"inputs": row(country=None)}, 422, "missing_field", "inputs.country"),
    "a column unknown": ({"inputs": row(shoe=column("shoe", [43]))}, 422, "unknown_field", "inputs.shoe"),
    "a column twice": ({"inputs": row(shoe=column("age", [43]))}, 422, "wrong_value", "inputs.age"),
    "parameters a list": ({"inputs": row(), "parameters": []}, 422, "wrong_type", "parameters"),
    "outputs an object": ({"inputs": row(), "outputs": {"name": "prediction"}}, 422, "wrong_type", "outputs"),
    "output without a name": ({"inputs": row(), "outputs": [{}]}, 422, "wrong_type", "outputs[0]"),
    "output unknown": ({"inputs": row(), "outputs": [{"name": "logits"}]}, 422, "unknown_field", "outputs.logits"),
    "id a number": ({"inputs": row(), "id": 7}, 422, "wrong_type", "id"),
    "bytes that are not there": (
        {"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]},
        422,
        "wrong_value",
        "inputs[0].parameters.binary_data_size",
    ),
    "size a string": (
        {"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": "8"}}]},
        422,
        "wrong_value",
        "inputs[0].parameters.binary_data_size",
    ),
    "a list": ([], 422, "wrong_type", None),
}


@pytest.mark.parametrize("document, status, code, field", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_and_what_is_wrong_named(document, status, code, field):
    protocol_refusal(post(gateway(SmallSystem(), max_instances=4), INFER, document), status, code, field)


def binary(datatype: str, shape: list[int], data: bytes, after: bytes = b"", size: int | None = None) -> tuple[bytes, dict]:
    """The body and headers of a request with one tensor as bytes."""
    parameters = {"binary_data_size": len(data) if size is None else size}
    text = json.dumps({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "parameters": parameters}]}).encode()
    return text + data + after, {"Inference-Header-Content-Length": str(len(text))}


SIZE = "inputs[0].parameters.binary_data_size"
MALFORMED_BYTES = {
    "half a number": (binary("FP64", [1], b"1234"), "wrong_value", SIZE),
    "too few numbers": (binary("FP32", [1, 2], b"1234"), "wrong_value", "inputs[0].shape"),
    "size negative": (binary("FP32", [1], b"", size=-4), "wrong_value", SIZE),
    "size beyond the body": (binary("FP32", [1], b"1234", size=8), "wrong_value", SIZE),
    "bytes left over": (binary("FP32", [1], b"1234", b"5678"), "wrong_value", "inputs"),
    "infinite": (binary("FP32", [1, 2], np.array([1, np.inf], "<f4").tobytes()), "wrong_value", "inputs[0]"),
    "string without an end": (binary("BYTES", [1], b"\x09\x00\x00\x00abc"), "wrong_value", SIZE),
    "length without an end": (binary("BYTES", [1], b"\x09\x00"), "wrong_value", SIZE),
    "string not UTF-8": (binary("BYTES", [1], b"\x01\x00\x00\x00\xff"), "wrong_value", SIZE),
    "header no number": ((b"{}", {"Inference-Header-Content-Length": "x"}), "wrong_value", "Inference-Header-Content-Length"),
    "header too large": ((b"{}", {"Inference-Header-Content-Length": "3"}), "wrong_value", "Inference-Header-Content-Length"),
    "header cuts the document": ((b"{}", {"Inference-Header-Content-Length": "1"}), "invalid_json", None),
}


@pytest.mark.parametrize("request_, code, field", MALFORMED_BYTES.values(), ids=MALFORMED_BYTES)
def test_malformed_bytes_are_refused(request_, code, field):
    body, headers = request_
    protocol_refusal(ask(gateway(SmallSystem(**REGRESSION)), "POST", INFER, content=body, headers=headers), 422, code, field)


def test_what_the_model_refuses_is_named_by_its_column():
    system = SmallSystem(schema=Schema((*MIXED.columns[:2],), "label", LabelType.STRING))
    inputs = [column("age", [1]), column("amount", [1])]
    assert post(gateway(system), INFER, {"inputs": inputs}).status_code == 200
    inputs = [column("amount", [1]), column("place", [1, 2], shape=[1, 2]), column("note", [3], "INT64")]
    protocol_refusal(post(gateway(SmallSystem(schema=RICH)), INFER, {"inputs": inputs}), 422, "wrong_value", "inputs.note")


@pytest.mark.parametrize("path", ["/v2/models/large", "/v2/models/large/ready"])
def test_another_model_is_404(path):
    protocol_refusal(ask(gateway(SmallSystem()), "GET", path), 404, "unknown_model")
    protocol_refusal(post(gateway(SmallSystem()), "/v2/models/large/infer", {}), 404, "unknown_model")
