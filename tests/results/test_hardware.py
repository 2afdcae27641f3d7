import pytest

from results import hardware

NAMES = [(name, device.id) for device in hardware.devices() for name in device.names]


@pytest.mark.parametrize(("name", "entry"), NAMES)
def test_every_name_a_runtime_reports_finds_its_own_entry(name: str, entry: str) -> None:
    found = hardware.find(name)
    assert found and found.id == entry


def test_an_unknown_device_is_none() -> None:
    assert hardware.find("Abacus 3000") is None


def test_ids_are_unique_and_every_entry_has_a_source() -> None:
    ids = [device.id for device in hardware.devices()]
    assert len(set(ids)) == len(ids)
    assert all(device.source for device in hardware.devices())


def test_a_figure_nobody_states_is_absent() -> None:
    cpu = hardware.find("cpu")
    assert cpu and cpu.tflops == {} and cpu.memory_gbs is None


def test_only_the_beginning_of_a_name_is_looked_at() -> None:
    """Over `a100` a hundred thousand times a pattern like `a100.*40gb` would take hours."""
    assert hardware.find(" " * hardware.LONGEST_NAME + "NVIDIA H200") is None
