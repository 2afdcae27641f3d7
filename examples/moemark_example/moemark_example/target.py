"""`single:DEVICE`: torch's device with one thread of the host. Other runtimes: see the methods in harness.targets."""

from harness.targets import TargetName
from harness.targets.torch_device import TorchTarget


class OneThread(TorchTarget):
    def __init__(self, name: TargetName) -> None:
        super().__init__(TargetName(name.kind, name.device, (*name.options, ("threads", "1"))))
