"""ONNX Runtime sessions on the provider that was asked for, or an error."""

from __future__ import annotations

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


def session_options(threads: int = 0) -> Any:
    """Quiet options; `threads` within one operator, 0 for one a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return options


def open_session(model: str | bytes, provider: str = "cpu", *, threads: int = 0) -> Any:
    """An onnxruntime.InferenceSession on the provider that was asked for.

    Raises:
        ProviderError: it would run elsewhere.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, session_options(threads), providers=provider_names(provider))
    check_provider(session, provider)
    return session
