"""What `python -m dlbridge` prints about the driver and its devices."""

import fake_cuda
from cuda_support import OnFakeCuda
from dlbridge import __main__ as report


class TestReport(OnFakeCuda):
    def test_devices_and_a_copy(self):
        assert list(report.cuda()) == ["driver of CUDA 12.4", "cuda:0", "cuda:1", "copies work"]

    def test_a_copy_that_fails(self):
        fake_cuda.fail("cuMemAllocAsync")
        *_, last = report.cuda()
        assert last.startswith("a copy failed: ") and "cuMemAllocAsync" in last

    def test_a_driver_that_does_not_start(self):
        fake_cuda.fail("cuInit", code=100)
        assert list(report.cuda()) == ["driver of CUDA 12.4", "cuInit returned error 100"]
