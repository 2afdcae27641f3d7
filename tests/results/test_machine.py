"""Which records are of one machine, and what else is said of two."""

from typing import Any

import pytest

from results import record
from results.machine import changes, of_one_machine, several_threads
from tests.results.conftest import run_header

HERE: dict[str, Any] = {
    "machine": {"cpu": "Test CPU", "cores_logical": 2, "cores_usable": 2, "architecture": "x86_64", "memory_gib": 8},
    "system": {"name": "Linux", "kernel": "6.1", "cgroup_cpu_max": "max 100000"},
    "python": {"version": "3.12.1"},
    "packages": {"torch": "2.11.0"},
    "variables": {},
    "targets": {"torch:cuda": {"name": "H100", "device_id": "cuda:0", "runtime_version": "2.11.0", "driver": "570"}},
}


def header(**rooms: dict[str, Any]) -> record.Run:
    """A header of this machine, with changes in its rooms."""
    environment = {room: {**values, **rooms.get(room, {})} for room, values in HERE.items()}
    return run_header(environment=environment)


@pytest.mark.parametrize(
    ("room", "values", "said"),
    [
        ("machine", {"cpu": "Other CPU"}, "machine.cpu was 'Test CPU' and is 'Other CPU' here"),
        ("machine", {"cores_usable": 1}, "machine.cores_usable was 2 and is 1 here"),
        ("system", {"cgroup_cpu_max": "100000 100000"}, "system.cgroup_cpu_max was"),
        ("targets", {"torch:cuda": {"name": "H200", "device_id": "cuda:0"}}, "name of torch:cuda was 'H100'"),
    ],
)
def test_other_hardware_or_less_of_it_is_another_machine(room: str, values: dict[str, Any], said: str) -> None:
    assert str(of_one_machine(header(), header(**{room: values}))).startswith(said)


@pytest.mark.parametrize(
    ("room", "values", "said"),
    [
        ("system", {"kernel": "6.6"}, "system.kernel was '6.1' and is '6.6' here"),
        ("system", {"libc": "glibc 2.39"}, "system.libc was None and is 'glibc 2.39' here"),
        ("system", {"huge_pages": "never"}, "system.huge_pages was None and is 'never' here"),
        ("packages", {"torch": "2.13.0"}, "packages.torch was '2.11.0' and is '2.13.0' here"),
        ("variables", {"OMP_NUM_THREADS": "1"}, "variables.OMP_NUM_THREADS was None and is '1' here"),
        (
            "targets",
            {"torch:cuda": {**HERE["targets"]["torch:cuda"], "driver": "580"}},
            "driver of torch:cuda was '570' and is '580' here",
        ),
    ],
)
def test_what_may_be_the_change_under_test_is_said_and_hinders_nothing(
    room: str, values: dict[str, Any], said: str
) -> None:
    base, new = header(), header(**{room: values})
    assert of_one_machine(base, new) is None
    assert changes(base, new) == [said]


def test_a_target_that_only_one_run_has_is_no_difference() -> None:
    new = header(targets={"ort:cpu": {"name": "Test CPU"}})
    assert of_one_machine(header(), new) is None


def test_a_machine_is_itself() -> None:
    assert (of_one_machine(header(), header()), changes(header(), header())) == (None, [])


@pytest.mark.parametrize("room", HERE)
@pytest.mark.parametrize("strange", [None, 3, "x", [], ["cpu"], {"torch:cuda": ["name"]}])
def test_a_header_that_a_stranger_wrote_is_compared_too(room: str, strange: Any) -> None:
    base, new = header(), run_header(environment=HERE | {room: strange})
    of_one_machine(base, new)
    assert of_one_machine(new, new) is None and changes(new, new) == []


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ({"unit": "host", "threads": 2}, True),
        ({"unit": "host", "threads": 1}, False),
        ({"unit": "host"}, False),
        ({"unit": "device", "threads": 2}, False),
        ({"unit": "host", "threads": "many"}, False),
    ],
)
def test_targets_of_several_threads_are_those_of_the_host_that_say_so(about: dict[str, object], found: bool) -> None:
    header = run_header(["torch:cpu"])
    header.environment["targets"]["torch:cpu"] = about
    assert several_threads(header) == ({"torch:cpu"} if found else set())
