"""What progress shows besides numbers."""

import torch

from freestyle_core.errors import is_out_of_memory
from freestyle_core.progress import contact_sheet


def test_contact_sheet_fills_rows_from_the_left_and_pads_with_black():
    views = [torch.full((3, 1, 2), float(n)) for n in (1, 2, 3)]
    sheet = contact_sheet(views)
    expected = torch.tensor([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 0.0, 0.0]])
    assert torch.equal(sheet, expected.expand(3, 2, 4))
    assert torch.equal(contact_sheet(views[:1]), views[0])
    assert contact_sheet(views[:2]).shape == (3, 1, 4)  # one row of two


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    for words in (
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
