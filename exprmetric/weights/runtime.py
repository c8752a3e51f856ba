"""ONNX Runtime sessions on the provider that was asked for, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from exprmetric.errors import ProviderError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}


def provider_names(provider: str) -> list[str]:
    """ONNX Runtime's list for a short name: the provider alone, and the CPU for operators that it leaves out.

    Raises:
        ProviderError: the name is unknown, or this installation of ONNX Runtime doesn't have it.
    """
    import onnxruntime

    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; known: {', '.join(PROVIDERS)}")
    name, present = PROVIDERS[provider], onnxruntime.get_available_providers()
    if name not in present:
        raise ProviderError(
            f"provider {provider!r} ({name}) is not in this onnxruntime {onnxruntime.__version__}, which has "
            f"{', '.join(present)}; for CUDA: pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    return list(dict.fromkeys([name, PROVIDERS["cpu"]]))


def check_provider(session: Any, provider: str) -> None:
    """ONNX Runtime falls back to the CPU with a mere warning; here that is an error."""
    running = session.get_providers()
    if running[0] != PROVIDERS[provider]:
        raise ProviderError(
            f"provider {provider!r} was asked for and {running[0]} would run: its libraries could not be loaded "
            "(for CUDA, see that the driver and the CUDA and cuDNN versions fit this onnxruntime)"
        )


_threads: ContextVar[int] = ContextVar("threads", default=0)


@contextmanager
def session_threads(count: int) -> Iterator[None]:
    """Sessions opened inside use so many threads within one operator; 0, as outside: one a core.

    Who runs several sessions side by side wants one each: threads that wait for each other are slower than none.
    """
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def session_options(threads: int | None = None) -> Any:
    """Quiet options; `threads` within one operator, by default those of `session_threads`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads.get() if threads is None else threads
    return options


def open_session(model: str | bytes, provider: str = "cpu", *, threads: int | None = None) -> Any:
    """An onnxruntime.InferenceSession on the provider that was asked for; `threads` as in `session_options`.

    Raises:
        ProviderError: it would run elsewhere.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, session_options(threads), providers=provider_names(provider))
    check_provider(session, provider)
    return session
