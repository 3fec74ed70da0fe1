"""The errors a user can meet. Each says what came, what was expected and what to do next."""


class FreeStyleError(Exception):
    """Base of every error this library raises on purpose; safe to show to a user in one line."""


class InputError(FreeStyleError, ValueError):
    """A setting is outside its range, empty or of the wrong kind."""


class ShapeError(FreeStyleError, ValueError):
    """A tensor has the wrong shape, size or contains values that are not finite."""


class FileFormatError(FreeStyleError):
    """A file is missing, truncated, foreign, or cannot be written."""


class WriteError(FileFormatError):
    """Writing failed half-way, such as on a full disk; nothing was left behind."""


class DownloadError(FreeStyleError):
    """A model could not be fetched; what has arrived is kept, so that a new try goes on there."""


class MismatchError(FreeStyleError):
    """Two parts are each fine but do not fit together, such as an I2T and another EG3D."""


class Cancelled(FreeStyleError):
    """The user stopped the run; nothing that was passed in has changed."""


_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    # cuBLAS and cuDNN word it in their own ways, the last two when no workspace is left
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "unable to find an engine",
    "unable to find a valid cudnn algorithm",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether PyTorch raised `error` because memory ran out, on whatever device."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
