from results.projection.anatomy import steps_of
from workloads.models import model, models


def counts(name: str, ep: int) -> dict[str, int]:
    return {step.name: step.count for step in steps_of(model(name), ep)}


def test_every_step_of_deepseek_v4_pro_is_there_as_often_as_its_layers_say() -> None:
    assert counts("deepseek-v4-pro", 32) == {
        "embedding": 1,
        "norms": 122,
        "hyper-connections": 122,
        "indexer (csa)": 30,
        "attention (csa)": 30,
        "KV write (csa)": 30,
        "attention (hca)": 31,
        "KV write (hca)": 31,
        **dict.fromkeys(("router", "dispatch", "permute", "experts", "shared expert", "unpermute", "combine"), 58),
        **{
            f"{name} (hash layers)": 3
            for name in ("router", "dispatch", "permute", "experts", "shared expert", "unpermute", "combine")
        },
        "residual sums": 122,
        "final norm": 1,
        "LM head": 1,
        "sampling": 1,
        "multi-token prediction": 1,
    }


def test_a_single_device_dispatches_nothing() -> None:
    assert not {"dispatch", "combine"} & set(counts("olmoe-1b-7b", 1))


def test_dense_layers_and_both_kinds_of_attention_are_counted() -> None:
    assert counts("deepseek-v3", 32)["dense FFN"] == 3
    gpt_oss = counts("gpt-oss-20b", 1)
    assert gpt_oss["attention (gqa window)"] + gpt_oss["attention (gqa)"] == model("gpt-oss-20b").num_layers


def test_every_model_has_steps_with_names_of_their_own() -> None:
    for about in models().values():
        names = [step.name for step in steps_of(about, 1)]
        assert len(names) == len(set(names)), about.id
