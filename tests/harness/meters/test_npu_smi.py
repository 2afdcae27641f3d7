"""npu-smi: how its output is read. The texts are what it prints on machines with a 910B3, a 310P3, a 910 of two dies (Atlas A3)
and a 950PR, as in its manual and in public reports of such machines, shortened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.meters import Reading
from harness.meters.npu_smi import Chip, NpuSmiMeter, chips_in, processes_in, visible_chip

MAPPING_910B3 = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t0                              0                              0                              Ascend 910B3
\t0                              1                              -                              Mcu
\t1                              0                              1                              Ascend 910B3
\t1                              1                              -                              Mcu
"""
MAPPING_A3 = """\
    NPU ID           Chip ID          Chip Logic ID    Chip Phy-ID      Chip Name
    0                0                0                0                Ascend910
    0                1                1                1                Ascend910
    0                2                -                -                Mcu
    1                0                2                2                Ascend910
"""
MAPPING_950 = """\
NPU ID  Slot ID  Chip ID  Chip Phy-ID  Chip Name
0       1        0        0            Ascend950PR
1       2        0        1            Ascend950PR
"""
COMMON_910B3 = """\
        NPU ID                         : 1
        Chip Count                     : 1

        Chip ID                        : 0
        Memory Usage Rate(%)           : 0
        HBM Usage Rate(%)              : 4
        Aicore Usage Rate(%)           : 0
        Aicore Freq(MHZ)               : 1800
        Aicore curFreq(MHZ)            : 800
        Aicore Count                   : 24
        Temperature(C)                 : 46
        NPU Real-time Power(W)         : 93.4

        Chip Name                      : mcu
        Temperature(C)                 : 38
"""
COMMON_310P3 = """\
    NPU ID                         : 1
    Chip Count                     : 1

    Chip ID                        : 0
    Memory Usage Rate(%)           : 4
    Aicore Usage Rate(%)           : 0
    Aicore Freq(MHZ)               : 1080
    Aicore curFreq(MHZ)            : 960
    Temperature(C)                 : 43

    Chip Name                      : mcu
    Temperature(C)                 : 41
    NPU Real-time Power(W)         : 13.4
"""
COMMON_950 = """\
NPU ID                         : 0
Memory Usage Rate(%)           : 0
HBM Usage Rate(%)              : 3
Aicore Usage Rate(%)           : 0
Aicore Freq(MHZ)               : 1650
Aicore curFreq(MHZ)            : 100
Aicore Count                   : 32
Temperature(C)                 : 65
NPU Real-time Power(W)         : 298.6
"""
BOARD_910B3 = """\
        NPU ID                         : 0
        Product Name                   : IT21HMDC_Bin5
        Software Version               : 25.5.1
        Firmware Version               : 7.8.0.6.201
        Compatibility                  : OK
        PCIe Bus Info                  : 0000:C1:00.0
        Chip Count                     : 1
"""
PROCESSES = """\
NPU ID                         : 32768
Chip Count                     : 2

Process id:1976358 Process name:gunicorn           Process memory(MB):1336
Process id:577293  Process name:gunicorn           Process memory(MB):1972
Chip ID                        : 0

Process id:1654605 Process name:gunicorn           Process memory(MB):1851
Chip ID                        : 1
"""
B3 = Chip(1, 0, 1, "Ascend 910B3")


def prints(**texts: str) -> Callable[..., str | None]:
    """An npu-smi that prints these texts for these kinds of questions, and fails at the others."""
    return lambda *words: texts.get(words[2].replace("-", "_"))


@pytest.mark.parametrize(
    ("text", "chips"),
    [
        (MAPPING_910B3, [(0, 0, 0), (1, 0, 1)]),
        (MAPPING_A3, [(0, 0, 0), (0, 1, 1), (1, 0, 2)]),
        (MAPPING_950, [(0, 0, 0), (1, 0, 1)]),
        ("dcmi model initialized failed\n", []),
        ("", []),
    ],
)
def test_chips_are_found_by_card_and_by_the_number_that_runtimes_use(
    text: str, chips: list[tuple[int, int, int]]
) -> None:
    assert [(chip.npu, chip.chip, chip.device) for chip in chips_in(text)] == chips


def test_a_chips_name_is_kept_exactly_as_it_is_reported() -> None:
    names = [chips_in(text)[0].name for text in (MAPPING_910B3, MAPPING_A3, MAPPING_950)]
    assert names == ["Ascend 910B3", "Ascend910", "Ascend950PR"]


@pytest.mark.parametrize(
    ("index", "variables", "device"),
    [
        (1, {}, 1),
        (0, {"ASCEND_RT_VISIBLE_DEVICES": "2, 0"}, 2),
        (1, {"ASCEND_RT_VISIBLE_DEVICES": "2"}, None),
        (0, {"ASCEND_RT_VISIBLE_DEVICES": ""}, None),
        (5, {}, None),
    ],
)
def test_a_runtimes_index_counts_the_visible_devices(index: int, variables: dict[str, str], device: int | None) -> None:
    found = visible_chip(index, chips_in(MAPPING_A3), variables)
    assert (found.device if found else None) == device


@pytest.mark.parametrize(
    ("text", "on_card", "reading", "scope"),
    [
        (COMMON_910B3, 1, Reading(power_w=93.4, clock_mhz=800, temperature_c=46), "chip"),
        (COMMON_310P3, 1, Reading(power_w=13.4, clock_mhz=960, temperature_c=43), "card"),
        (COMMON_310P3, 2, Reading(power_w=13.4, clock_mhz=960, temperature_c=43), "card of 2 chips"),
        (COMMON_950, 1, Reading(power_w=298.6, clock_mhz=100, temperature_c=65), "chip"),
        (COMMON_910B3.replace("93.4", "NA"), 1, Reading(clock_mhz=800, temperature_c=46), "chip"),
    ],
)
def test_power_is_the_chips_or_else_the_cards_and_says_whose(
    text: str, on_card: int, reading: Reading, scope: str
) -> None:
    found = NpuSmiMeter(B3, on_card, prints(common=text))
    assert (found.read(), found.scope) == (reading, scope)


def test_driver_and_firmware_are_settings_and_the_address_is_lower_case() -> None:
    found = NpuSmiMeter(B3, 1, prints(common=COMMON_910B3, board=BOARD_910B3))
    assert found.pci == "0000:c1:00.0"
    assert found.settings() == {
        "driver": "25.5.1",
        "firmware": "7.8.0.6.201",
        "chip": "Ascend 910B3",
        "max_clock_mhz": 1800.0,
        "ai_cores": 24.0,
    }


def test_an_npu_smi_that_fails_tells_nothing() -> None:
    silent = NpuSmiMeter(B3, 1, prints())
    assert (silent.read(), silent.pci, silent.processes()) == (Reading(), None, None)
    assert silent.settings() == {"chip": "Ascend 910B3"}


def test_processes_stand_before_the_number_of_their_chip() -> None:
    assert (processes_in(PROCESSES, 0), processes_in(PROCESSES, 1)) == ({1976358, 577293}, {1654605})
    assert processes_in("No process in device.\nChip ID                        : 0\n", 0) == set()
    assert processes_in("Process id:899293  Process name:VLLMWorker_TP  Process memory(MB):57280", 0) == {899293}
