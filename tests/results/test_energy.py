import msgspec
import pytest

from results.energy import energy_of, mean_watts, tokens_per_joule, why_no_energy
from results.metrics import metrics
from results.record import Measurement, Power, Readings
from results.tables import power_table
from tests.results.conftest import OLMOE, WriteRun, measurement
from workloads.case import Case

SECOND = 1_000_000_000
SUSTAINED = OLMOE.replace("latency", "sustained")
IDLE = Readings(at_ns=[0, 5 * SECOND], energy_j=[0.0, 250.0])
LOADED = Readings(
    at_ns=[0, 30 * SECOND, 61 * SECOND], energy_j=[0.0, 6000.0, 12200.0], clock_mhz=[1500.0, 1400.0, 1450.0]
)


def sustained(loaded: Readings = LOADED, idle: Readings = IDLE, seconds: int = 60) -> Measurement:
    """Windows of a second with 1000 calls of 16 tokens, on a device that draws 200 W, idle 50 W."""
    power = Power(source="nvml", scope="gpu", idle=idle, loaded=loaded)
    return measurement(
        case=SUSTAINED, samples_ns=[SECOND] * seconds, slots=None, calls_per_sample=1000, power=power, turns=[]
    )


def test_joules_per_token_are_mean_power_times_the_time_of_a_token() -> None:
    found = energy_of(sustained())
    assert found is not None
    assert (found.mean_w, found.idle_w, found.seconds) == (200.0, 50.0, 60.0)
    # 16 tokens in a millisecond: 62.5 µs a token.
    assert found.joules_per_token == pytest.approx(200 * 62.5e-6)
    assert tokens_per_joule(found) == pytest.approx(80)
    assert found.joules_per_token_above_idle == pytest.approx(150 * 62.5e-6)
    assert found.readings_per_s == pytest.approx(2 / 61)


def test_without_a_counter_power_is_integrated_by_trapezoids() -> None:
    # 100 W rising to 300 W within a second, and 300 W for three.
    readings = Readings(at_ns=[0, SECOND, 4 * SECOND], power_w=[100.0, 300.0, 300.0])
    assert mean_watts(readings) == pytest.approx((200 + 3 * 300) / 4)


@pytest.mark.parametrize("readings", [Readings(at_ns=[]), Readings(at_ns=[0], power_w=[1.0]), Readings(at_ns=[0, 1])])
def test_what_was_not_told_twice_has_no_mean(readings: Readings) -> None:
    assert mean_watts(readings) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (sustained(seconds=59), "59 s of work: energy takes 60 s"),
        (sustained(loaded=Readings(at_ns=[0, SECOND], clock_mhz=[1.0, 1.0])), "nvml tells no power here"),
        (msgspec.structs.replace(sustained(), power=None), "nothing here tells power"),
    ],
)
def test_there_are_no_joules_without_a_minute_and_a_meter(line: Measurement, why: str) -> None:
    assert (energy_of(line), why_no_energy(line)) == (None, why)


def test_an_idle_floor_that_was_not_told_leaves_the_figure_above_it_out() -> None:
    found = energy_of(sustained(idle=Readings(at_ns=[])))
    assert found is not None and found.joules_per_token_above_idle is None


def test_energy_is_among_the_figures_of_a_measurement(write_run: WriteRun) -> None:
    run = write_run(sustained(), measurement())
    figures = [metrics(run, line) for line in run.measurements]
    assert [figure.energy is not None for figure in figures if figure] == [True, False]


def test_the_table_shows_sustained_measurements_only_and_whose_power_it_is(write_run: WriteRun) -> None:
    table = power_table(write_run(sustained(), measurement()))
    ((row,),) = (section.rows for section in table.sections)
    cells = dict(zip((column.name for column in table.columns), row, strict=True))
    assert (cells["J/token"], cells["above idle"]) == ("0.0125 [1]", "0.00937")
    assert (cells["mean W"], cells["MHz"], cells["°C"]) == ("200", "1400 .. 1500", "")
    assert table.notes == ("nvml, of the gpu, over 60 s",)


def test_a_table_cell_without_joules_says_why(write_run: WriteRun) -> None:
    table = power_table(write_run(sustained(seconds=59)))
    assert table.sections[0].rows[0][2] == "- [1]"
    assert table.notes == ("59 s of work: energy takes 60 s",)


def test_a_series_has_as_many_readings_as_times() -> None:
    with pytest.raises(ValueError, match="as many readings"):
        Readings(at_ns=[0, 1], power_w=[1.0])
    assert Case.parse(SUSTAINED).scenario == "sustained"
