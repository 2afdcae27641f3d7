"""Models: every table is well-formed, a wrong one is named with its mend, counts agree with what was published."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import workloads.models as room
from workloads.case import UserError
from workloads.dims import Attention, Model
from workloads.models import check_share, model, models, parameters, read_models, shares
from workloads.parameters import expert_parameters, mixer_parameters

GQA = {"kind": "gqa", "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 3}


def tiny(**changes: Any) -> dict[str, Any]:
    """A model whose counts can be worked out by hand; a change to None removes the key."""
    table = {
        "id": "tiny",
        "name": "Tiny",
        "release": "2026",
        "source": "by hand",
        "source_read": "this file",
        "hidden_size": 4,
        "num_layers": 1,
        "moe_layers": 1,
        "dense_layers": 0,
        "vocab_size": 10,
        "num_experts": 6,
        "experts_per_token": 2,
        "moe_intermediate_size": 5,
        "router": "softmax_topk",
        "activation": "silu_swiglu",
        "attention": [GQA],
    }
    return {key: value for key, value in (table | changes).items() if value is not None}


def read(**changes: Any) -> Model:
    return read_models({"model": [tiny(**changes)]}, "mine.toml")[0]


def test_every_shipped_model_is_there_with_its_source() -> None:
    tables = tomllib.loads(Path(room.__file__).with_name("models.toml").read_text(encoding="utf-8"))["model"]
    assert list(models()) == [table["id"] for table in tables]
    assert all(entry.source and entry.source_read for entry in models().values())


def test_models_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        models()["tiny"] = read()  # type: ignore[index]
    with pytest.raises(AttributeError):
        model("olmoe-1b-7b").hidden_size = 1  # type: ignore[misc]


def test_an_absent_key_means_there_is_none_of_it() -> None:
    olmoe = model("olmoe-1b-7b")
    assert (olmoe.shared_intermediate_size, olmoe.num_expert_groups, olmoe.router_bias) == (0, 1, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": None}, "key 'hidden_size' is missing: add it"),
        ({"hidden_size": "4"}, "key 'hidden_size': expected 'int', got 'str': correct it"),
        ({"hidden_size": 0}, "key 'hidden_size': expected 'int' >= 1: correct it"),
        ({"hiden_size": 4}, "unknown key 'hiden_size': write hidden_size"),
        ({"colour": "red"}, "unknown key 'colour': remove it"),
        ({"router": "softmaxx"}, "key 'router': 'softmaxx' is not one of softmax_topk, softmax_bias_topk"),
        ({"router": None}, "moe_layers = 1 needs router: add it"),
        ({"num_experts": None}, "moe_layers = 1 needs num_experts: add it"),
        ({"activation": "clamped_silu_swiglu"}, "activation 'clamped_silu_swiglu' needs activation_limit: add it"),
        ({"activation": "relu2"}, "activation 'relu2' has no gate: write glu = false"),
        ({"glu": False}, "activation 'silu_swiglu' has a gate: remove glu = false"),
        ({"experts_per_token": 7}, "experts_per_token = 7 must be at most num_experts = 6"),
        ({"weight_on_input": True}, "weight_on_input needs experts_per_token = 1, not 2"),
        ({"num_expert_groups": 4}, "num_expert_groups = 4 must divide num_experts = 6"),
        ({"num_expert_groups": 2, "topk_groups": 3}, "topk_groups = 3 must be at most num_expert_groups = 2"),
        ({"num_expert_groups": 6}, "experts_per_token = 2 is more than 1 groups hold: raise topk_groups"),
        ({"hash_layers": 2}, "hash_layers = 2 must be at most moe_layers = 1"),
        ({"dense_layers": 1}, "dense_layers = 1 needs dense_intermediate_size: add it"),
        ({"attention": []}, "key 'attention': expected 'array' of length >= 1: correct it"),
        ({"attention": [{"kind": "gqa", "layers": 1}]}, "attention of kind 'gqa' needs heads: add it"),
        ({"attention": [{"kind": "gqa", "layers": 1, "head": 2}]}, "unknown key 'head' in attention[0]: write heads"),
        (
            {"attention": [GQA | {"bias": True, "qkv_bias": True}]},
            "attention of kind 'gqa' has bias and qkv_bias: remove one",
        ),
        ({"attention": [GQA | {"nope": True}]}, "attention of kind 'gqa' needs rope_source: add it"),
        ({"attention": [GQA | {"query_growth": 0.1}]}, "attention of kind 'gqa' needs query_span: add it"),
        ({"attention": [GQA | {"rope_scaling": "longrope"}]}, "attention of kind 'gqa' needs rope_short: add it"),
        ({"attention": [{"kind": "gka", "layers": 1}]}, "key 'attention[0].kind': 'gka' is not one of gqa, mla"),
    ],
)
def test_a_wrong_key_is_named_with_its_model_and_the_mend(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(f"mine.toml: model 'tiny': {said}")):
        read(**changes)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"model": [tiny(), tiny()]}, "model 'tiny' is there twice"),
        ({"model": [tiny(id=None)]}, "model number 1: key 'id' is missing"),
        ({"models": [tiny()]}, "holds [[model]] tables and nothing else"),
        ({"model": tiny()}, "holds [[model]] tables and nothing else"),
        ({"model": [3]}, "model number 1: expected 'object', got 'int'"),
    ],
)
def test_a_wrong_file_is_named(tables: Any, said: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(f"mine.toml: {said}")):
        read_models(tables, "mine.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("deepseek-v4", "did you mean deepseek-v4-pro or deepseek-v4-flash"),
        ("olmo-1b-7b", "did you mean olmoe-1b-7b or "),
        ("", "there are deepseek-v4-pro, "),
    ],
)
def test_an_unknown_model_is_answered_with_those_that_come_close(name: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"unknown model {name!r}: {said}")):
        model(name)


def test_ep_divides_the_experts() -> None:
    check_share(model("qwen3-30b-a3b"), 8)
    with pytest.raises(UserError, match="ep7 does not divide the 128 experts of qwen3-30b-a3b: it can be ep1, ep2"):
        check_share(model("qwen3-30b-a3b"), 7)


def test_the_shares_of_six_experts_are_its_divisors() -> None:
    assert shares(read()) == [1, 2, 3, 6]


def test_a_dense_model_has_no_share_but_the_whole() -> None:
    check_share(model("qwen3-32b"), 1)
    with pytest.raises(UserError, match="write ep1 instead of ep2"):
        check_share(model("qwen3-32b"), 2)


def test_the_parameters_of_a_tiny_model_are_those_counted_by_hand() -> None:
    """Embedding 40, head 40; q 24 + k, v 24 + o 24 = 72; gate 24; an expert 3 * 4 * 5 = 60."""
    found = parameters(read())
    assert found.total == 40 + 40 + 72 + 24 + 6 * 60
    assert found.active == 40 + 40 + 72 + 24 + 2 * 60
    assert found.active_no_embedding == found.active - 40
    assert found.active_body == found.active - 80
    assert found.routed == 360


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"tied_embeddings": True}, -40),
        ({"shared_intermediate_size": 2}, 3 * 4 * 2),
        ({"shared_intermediate_size": 2, "shared_gate": True}, 3 * 4 * 2 + 4),
        ({"zero_experts": 3}, 3 * 4),
        ({"dense_layers": 1, "dense_intermediate_size": 7}, 3 * 4 * 7),
        ({"glu": False, "activation": "relu2"}, -6 * 20),
        ({"expert_bias": True}, 6 * (2 * 5 + 4)),
        ({"moe_latent_size": 2}, 2 * 4 * 2 - 6 * 30),
        ({"hyper_connections": 2}, 2 * (2 * 4) * (2 + 2 + 4)),
    ],
)
def test_each_part_adds_its_own(changes: dict[str, Any], more: int) -> None:
    assert parameters(read(**changes)).total - parameters(read()).total == more


def test_an_expert_of_deepseek_v4_flash_has_25_million_parameters() -> None:
    assert expert_parameters(model("deepseek-v4-flash")) == 3 * 4096 * 2048


def test_latent_attention_of_deepseek_v3_has_187_million_parameters() -> None:
    """DeepSeek-V3: q 7168*1536 + 1536*128*192, kv 7168*576 + 512*128*256, o 128*128*7168."""
    mixer = model("deepseek-v3").attention[0]
    assert mixer_parameters(mixer, 7168) == 11_010_048 + 37_748_736 + 4_128_768 + 16_777_216 + 117_440_512


def test_a_bias_and_an_output_gate_are_counted() -> None:
    plain = Attention(kind="gqa", layers=1, heads=2, kv_heads=1, head_dim=3)
    more = Attention(kind="gqa", layers=1, heads=2, kv_heads=1, head_dim=3, bias=True, output_gate=True)
    assert mixer_parameters(more, 4) - mixer_parameters(plain, 4) == (6 + 6 + 4) + 24
    without_out = Attention(kind="gqa", layers=1, heads=2, kv_heads=1, head_dim=3, qkv_bias=True)
    assert mixer_parameters(without_out, 4) - mixer_parameters(plain, 4) == 6 + 6


def _gaps(entry: Model) -> Iterator[float]:
    found = parameters(entry)
    if entry.total_params_b:
        yield abs(found.total / 1e9 / entry.total_params_b - 1)
    if entry.active_params_b:
        ways = (found.active, found.active_no_embedding, found.active_body)
        yield min(abs(way / 1e9 / entry.active_params_b - 1) for way in ways)


@pytest.mark.parametrize("name", list(models()))
def test_counts_are_within_1_percent_of_the_published_or_the_note_explains(name: str) -> None:
    assert (max(_gaps(model(name)), default=0) > 0.01) == ("Counts: " in model(name).note)


@pytest.mark.parametrize("name", list(models()))
def test_no_count_is_further_from_the_published_than_a_rounded_figure_can_be(name: str) -> None:
    """The widest: A3B for 3.25 B."""
    assert max(_gaps(model(name)), default=0) < 0.09


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Another package's entry in `moemark.models`, an attribute of this module."""
    entry = EntryPoint("theirs", f"{__name__}:{request.param}", "moemark.models")
    monkeypatch.setattr(room, "entry_points", lambda group: importlib.metadata.EntryPoints([entry]))
    room.models.cache_clear()
    yield
    room.models.cache_clear()


TABLES = {"model": [tiny()]}
TAKEN = {"model": [tiny(id="olmoe-1b-7b")]}
NOWHERE = Path("nowhere.toml")


def provide_tables() -> dict[str, Any]:
    return TABLES


@pytest.mark.parametrize("stranger", ["TABLES", "provide_tables"], indirect=True)
def test_another_package_adds_a_model(stranger: None) -> None:
    assert model("tiny").num_experts == 6
    assert model("olmoe-1b-7b").num_experts == 64


@pytest.mark.parametrize(
    ("stranger", "said"),
    [
        ("TAKEN", "'theirs' of moemark.models: model 'olmoe-1b-7b' is there already"),
        ("ABSENT", "'theirs' of moemark.models cannot be loaded"),
        ("NOWHERE", "nowhere.toml: No such file or directory"),
    ],
    indirect=["stranger"],
)
def test_a_broken_provider_is_named(stranger: None, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        models()


def test_a_file_of_models_is_read_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "theirs.toml"
    source = Path(room.__file__).with_name("models.toml").read_text(encoding="utf-8")
    first = "[[model]]" + source.split("[[model]]")[1].replace('"deepseek-v4-pro"', '"theirs"')
    file.write_text(first, encoding="utf-8")
    monkeypatch.setattr(room, "_FILE", file)
    assert list(room.models.__wrapped__()) == ["theirs"]
