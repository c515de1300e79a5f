"""Kernels without a second derivative are off inside of traces, and only there."""

import importlib
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from hypergrad import backend
from hypergrad.backend import _patches

RNN = importlib.import_module(f"keras.src.backend.{backend.name}.rnn")
ARGUMENTS = (keras.activations.tanh, keras.activations.sigmoid, False)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: Any) -> None:
    monkeypatch.setattr(_patches, "_said", set())


@pytest.fixture
def gpu(monkeypatch: Any) -> None:
    """Keras believes that there is one; the answers below are its own."""
    monkeypatch.setattr(RNN, "_is_gpu_available", lambda: True)


def cudnn_ok() -> bool:
    return RNN.cudnn_ok(*ARGUMENTS, use_bias=True)


def test_cudnn_is_off_inside_of_a_trace(gpu: None) -> None:
    plain = RNN.cudnn_ok, layers.LSTM.inner_loop, layers.GRU.inner_loop
    assert cudnn_ok()
    with pytest.warns(UserWarning, match="without cuDNN.*no second derivative") as said:
        with backend.tracing():
            assert not cudnn_ok()
            with backend.tracing():
                assert not cudnn_ok()
            assert not cudnn_ok()
    assert len(said) == 1
    with backend.tracing():
        assert not cudnn_ok()  # a second warning would be an error here
    assert cudnn_ok()
    assert plain == (RNN.cudnn_ok, layers.LSTM.inner_loop, layers.GRU.inner_loop)


def test_nothing_is_said_where_there_is_no_gpu() -> None:
    with backend.tracing():
        assert not cudnn_ok()
    assert not _patches._said


@pytest.mark.filterwarnings("ignore:.*without cuDNN")
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_layer_that_asks_for_cudnn_runs_as_a_plain_loop(kind: type, gpu: Any) -> None:
    forced, free = kind(2, use_cudnn=True), kind(2, use_cudnn=False)
    x = backend.convert(np.random.default_rng(0).normal(size=(2, 3, 2)))
    free.build(x.shape)
    forced.build(x.shape)
    forced.set_weights(free.get_weights())
    program = backend.jit(lambda x: (forced(x), free(x)))
    one, other = backend.to_numpy(program(x))
    np.testing.assert_array_equal(one, other)
    assert forced.use_cudnn is True and free.use_cudnn is False


@pytest.mark.skipif(backend.name != "jax", reason="Keras has none on TensorFlow")
@pytest.mark.parametrize("asked", [None, True])
def test_flash_attention_is_off_inside_of_a_trace(
    asked: bool | None, monkeypatch: Any
) -> None:
    jax = pytest.importorskip("jax")
    module = importlib.import_module("keras.src.backend.jax.nn")
    used: list[str] = []

    def attention(query: Any, *args: Any, implementation: str, **kwargs: Any) -> Any:
        used.append(implementation)
        return query

    monkeypatch.setattr(module, "_can_use_flash_attention", lambda *a, **k: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    x = ops.ones((1, 2, 1, 4), "float32")
    ops.dot_product_attention(x, x, x, flash_attention=asked)
    assert used == ["cudnn"]
    with pytest.warns(UserWarning, match="without flash attention"):
        with backend.tracing():
            ops.dot_product_attention(x, x, x, flash_attention=asked)
    ops.dot_product_attention(x, x, x, flash_attention=asked)
    assert used == ["cudnn", "xla", "cudnn"]


def test_attention_in_float64_is_that_of_its_formula() -> None:
    draw = np.random.default_rng(0)
    q, k, v = draw.normal(size=(3, 2, 4, 2, 4))
    mask = np.tril(np.ones((4, 4), bool))
    logits = np.einsum("btnh,bsnh->bnts", q, k) / 2.0
    weights = np.where(mask, np.exp(logits), 0.0)
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnh->btnh", weights, v)
    q, k, v = map(backend.convert, (q, k, v))
    masks = {"is_causal": True}, {"mask": backend.convert(mask[None, None])}
    for given in masks:
        found = np.asarray(ops.dot_product_attention(q, k, v, **given))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
