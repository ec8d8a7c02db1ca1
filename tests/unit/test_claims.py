"""The ledger against the article's own numbers and against arithmetic by hand, and what the verb makes of it."""

import json
import re
from collections import Counter
from math import isclose
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.planner.memory import fewest_stages
from analysis.trial.degrees import corrected_table
from analysis.trial.formula import evaluate, numbers
from analysis.trial.quantities import quantity
from analysis.trial.vendor import network_ledger, vendor_ledger
from analysis.trial.verdicts import VERDICTS, Ruling, judge
from tp import catalogue
from tp.claim import load_ledger
from tp.errors import ConfigError
from tp.hardware import load_network, load_node
from tp.model import load_model

pytestmark = pytest.mark.unit

ARTICLE = load_ledger("article")
RULINGS: dict[str, Ruling] = {ruling.claim.name: ruling for ruling in judge(ARTICLE, [])}
LLAMA = load_model("llama2-70b")

# The numbers that the article prints, by hand from its text, in plain units: what each claim must state, and what its
# own inputs must give, within the digits printed.
PRINTED = {
    "stages-without-tp": 80,
    "key-size": 128,
    "q-size": 4096 * 8192 / 64,
    "kv-size": 4096 * 8192 / 64,
    "weights-of-a-head": 8192 * 8192 / 64,
    "qkv-flops": 2 * 3 * 4096 * 8192 * 8192 / 64,
    "z-size": 4096 * 8192 / 64,
    "x-size": 4096 * 8192,
    "flops-a-byte": 384,
    "a100-peak": 330e12,
    "needed-one-way": 859e9,
    "needed-both-ways": 1.7e12,
    "pcie4-rate": 64e9,
    "threshold-a100-pcie4": 10_000,
    "degree-a100-pcie4": 2.4,
    "two-a100-on-pcie4": 2,
    "h100-peak": 1979e12,
    "h100-nvlink": 900e9,
    "threshold-h100-nvlink": 4400,
    "degree-h100-nvlink": 5.5,
    "h800-nvlink": 400e9,
    "h800-peak": 1979e12,
    "threshold-h800-nvlink": 10_000,
    "degree-h800-nvlink": 2.4,
    "pcie5-twice-pcie4": 2,
    "pcie5-rate": 128e9,
    "threshold-h100-pcie5": 30_000,
    "degree-h100-pcie5": 0.8,
    "gh200-double": 2,
    "gh200-nvlink": 900e9,
    "gh200-memory": 144e12,
}

# Fewer digits than two are printed of these, or they are cut instead of rounded: 10312, 9895, 30922; 5.585, 0.819.
COARSE = {"threshold-a100-pcie4", "threshold-h800-nvlink", "threshold-h100-pcie5"}
CUT = {"degree-a100-pcie4", "degree-h800-nvlink", "degree-h100-nvlink", "degree-h100-pcie5"}

HOLD = {
    *("activations-of-a-pipeline", "heads-are-independent", "communication-counts", "key-size", "q-size", "kv-size"),
    *("weights-of-a-head", "qkv-flops", "z-size", "x-size", "z-as-large-as-x", "flops-a-byte", "several-heads"),
    *("h100-nvlink", "h800-nvlink", "h800-computes-alike", "not-in-practice", "ffn-alike", "ratio-as-dimensions"),
    *("better-partitioning", "pcie5-twice-pcie4", "gh200-nvlink", "roce-as-infiniband"),
}
HOLD_OTHERWISE = {
    *("stages-with-tp-8", "fewer-stages", "smaller-batch", "pcie4-rate", "beyond-pcie4", "beyond-nvlink"),
    *("threshold-a100-pcie4", "two-a100-on-pcie4", "h800-as-4090", "eight-h800", "pcie5-rate"),
    *("no-pcie-for-training", "orders-of-magnitude"),
}
UNTESTABLE = {"roce-latency", "infiniband-shortage", "roce-proven", "memory-for-network"}


def test_every_claim_has_its_verdict() -> None:
    assert len(RULINGS) >= 25
    by_verdict = {verdict: {name for name, r in RULINGS.items() if r.verdict == verdict} for verdict in VERDICTS}
    assert by_verdict["holds"] == HOLD
    assert by_verdict["holds with other inputs"] == HOLD_OTHERWISE
    assert by_verdict["not testable here"] == UNTESTABLE
    assert by_verdict["refuted"] == set(RULINGS) - HOLD - HOLD_OTHERWISE - UNTESTABLE
    assert all(ruling.reason for ruling in RULINGS.values())
    assert all((ruling.own is None) == (name in UNTESTABLE) for name, ruling in RULINGS.items())


def test_the_ledger_states_what_the_article_prints() -> None:
    stated = {claim.name: claim.stated for claim in ARTICLE.claims if claim.relation == "=" and claim.printed}
    assert {name: stated[name] for name in PRINTED} == PRINTED
    # What else is printed compares: the same as, costs MNK.
    assert set(stated) - set(PRINTED) == {"h800-as-4090", "product-cost", "product-size"}


@pytest.mark.parametrize("name", PRINTED)
def test_its_own_inputs_give_what_the_article_prints(name: str) -> None:
    own, printed = RULINGS[name].own, PRINTED[name]
    assert own is not None
    if name in CUT:
        assert printed <= own < printed + 0.1
    else:
        assert own == pytest.approx(printed, rel=0.05 if name in COARSE else 0.015)


@pytest.mark.parametrize("claim", [claim for claim in ARTICLE.claims if claim.printed], ids=lambda claim: claim.name)
def test_the_printed_words_hold_the_stated_number(claim) -> None:  # type: ignore[no-untyped-def]
    """The number in `printed`, with its unit, is the one in `stated`; of expressions their value."""
    if claim.relation != "=" or claim.name in ("h800-as-4090", "product-cost", "product-size", "gh200-double"):
        return
    text = claim.printed.replace("batch size * ", "").replace(",", "").removeprefix("2 * 3 * batch")
    text = text.split("=")[0] if "=" in text else text
    words = {"twice as fast as Gen4": "2", "128G / 2": "128G", "reduced from 900 GB/s to 400 GB/s": "400 GB/s"}
    text = words.get(text, text)
    factor = next((f for unit, f in (("T", 1e12), ("G", 1e9)) if re.search(rf"\d\s*{unit}(?!P)", text)), 1)
    (expression,) = re.findall(r"[\d.]+(?: [*/] [\d.]+)*", text.replace("Gen4 x16", "")) or [""]
    assert claim.stated == pytest.approx(factor * evaluate(expression, {}, where="the article"))


def test_degrees_against_a_hand_calculation() -> None:
    """The full layer over a ring, one way, dense peak; every number from the data sheets and Llama 2's paper.

    Weights of a layer: QKV 8192 x (8192 + 2 x 1024) = 83.9 M, output 8192 x 8192 = 67.1 M, FFN 3 x 8192 x 28672 =
    704.6 M; together 855.6 M, 1.711 GFLOP a token. Sent a token: two all-reduces of 8192 elements of 2 bytes, each
    2 (n-1)/n, so 65,536 (n-1)/n bytes. Equal where F/(n P) = A (n-1)/(n B): n = 1 + F B/(A P), F/A = 26,112 FLOP/B.
    """
    weights = 8192 * (8192 + 2 * 1024) + 8192 * 8192 + 3 * 8192 * 28672
    assert weights == 855_638_016
    flops_per_byte = 2 * weights / (2 * 2 * 8192 * 2)
    assert flops_per_byte == 26_112
    by_hand = {
        "a100-sxm-80gb": (312e12, 12 * 25e9, 26.1),  # 26112 x 300 / 312000 = 25.11
        "h100-sxm": (989.4e12, 18 * 25e9, 12.9),  # 26112 x 450 / 989400 = 11.88
        "h800-sxm": (989.4e12, 8 * 25e9, 6.3),  # 26112 x 200 / 989400 = 5.28
        "rtx-4090": (165.2e12, 32e9 * 128 / 130, 6.0),  # 26112 x 31.5 / 165200 = 4.98; 6.1 with 32 GB/s uncoded
        "h100-pcie": (756.5e12, 64e9 * 128 / 130, 3.2),  # 26112 x 63 / 756500 = 2.17
    }
    table = {row.hardware: row for row in corrected_table(LLAMA, [load_node(name) for name in by_hand])}
    for name, (peak, one_way, degree) in by_hand.items():
        assert table[name].balance == pytest.approx(1 + flops_per_byte * one_way / peak, rel=2e-3)
        assert round(table[name].balance, 1) == degree


def test_stages_of_the_articles_pipeline() -> None:
    """Weights, gradients and Adam of 69 G parameters are 1.1 TB, 14 GPUs' memory; activations make the difference."""
    node = load_node("a100-sxm-80gb")
    # 2 bytes of weights, 2 of gradients, 12 of Adam a parameter; 2 GB of each GPU are taken before.
    states = LLAMA.num_parameters * (2 + 2 + 12)
    alone = fewest_stages(LLAMA, node, 1, recompute="full")
    assert alone is not None
    assert states / 78e9 < alone < 80
    # Without recomputation the first of p stages keeps what p micro-batches leave in 80/p layers: 80 layers' of one.
    assert fewest_stages(LLAMA, node, 1, recompute="none") is None
    assert RULINGS["stages-without-tp"].right == alone


def test_a_layer_is_compared_as_the_article_says() -> None:
    # FFN 704.6 M weights against attention's 151.0 M, and both send the same: 4.67, two thirds of a power of ten.
    assert RULINGS["ffn-alike"].own == pytest.approx(0.669, abs=1e-3)
    # columns: 8192 + 8192 in attention, 28672 + 8192 in the FFN; allreduce 2 x 2 x 8192.
    assert RULINGS["better-partitioning"].own == pytest.approx((3 * 8192 + 28672) / (4 * 8192))
    # Over 2 of the PCIe card sending takes 1 / 2.17 of computing: 68.5 % of the power without overlap.
    assert RULINGS["pcie-compromises"].right == pytest.approx(2 / 3.175, rel=1e-3)
    assert "efficiency of 2: 0.685" in RULINGS["pcie-compromises"].reason
    # What the right inputs give by the article's own rule stands beside the layer's balance.
    assert RULINGS["degree-h100-nvlink"].reason.endswith("by the rule: 11.2")
    # At 64 ranks each computes a K and a V of its own; of use is an eighth of that.
    assert RULINGS["flops-a-byte"].right == 384
    assert RULINGS["flops-a-byte"].reason.endswith("of use, each kv head counted once: 160 FLOP/B")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("model llama2-70b hidden", 8192),
        ("peak h100-sxm bf16", 989.4e12),
        ("link h800-sxm nvlink4", 200e9),
        ("network roce-400", 50e9),
        ("qkv_flops_per_byte llama2-70b 8", 1280),
        ("qkv_flops_per_byte llama2-70b 64", 384),
        ("qkv_weights llama2-70b 64", 3 * 128 * 8192),
        ("article_rule llama2-70b h800-sxm nvlink4", 24576 * 200 / 989400),
        ("z_elements llama2-70b 8 4096", 4096 * 1024),
        ("sent_elements llama2-70b attention columns", 2 * 8192),
        ("product_flops llama2-70b attention", 2 * (8192 * 10240 + 8192 * 8192)),
    ],
)
def test_references_by_hand(reference: str, value: float) -> None:
    assert quantity(reference, where="test") == pytest.approx(value)


@pytest.mark.parametrize(
    ("formula", "inputs", "message"),
    [
        ("1 / x", {"x": 0.0}, "c: formula '1 / x' has no value"),
        ("9 ** 9 ** 9 ** 9", {}, "has no value"),
        ("__import__('os').getcwd()", {}, "has no value"),
        ("y", {"x": 1.0}, "has no value ('y' is not defined"),
        ("x > 1", {"x": 2.0}, "is no number (True)"),
        ("log10(x)", {"x": -1.0}, "has no value"),
        ("x", {"x": "speed of light"}, "input 'speed of light' is unknown; choose from model, peak"),
        ("x", {"x": "peak h100-sxm"}, "input 'peak h100-sxm' has 1 arguments; peak takes hardware, dtype"),
        ("x", {"x": "peak h1000 bf16"}, "input 'peak h1000 bf16': --hardware h1000: unknown; did you mean"),
        ("x", {"x": "model llama2-70b name"}, "name is no size of a model"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(formula: str, inputs: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate(formula, numbers(inputs, where="c"), where="c")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_catalogue_is_the_vendors_ledger() -> None:
    """Every peak, memory and link rate of every description is a claim that follows from its own arithmetic."""
    rulings = [
        *(r for name in catalogue.names("hardware") for r in judge(vendor_ledger(load_node(name)), [])),
        *(r for name in catalogue.names("networks") for r in judge(network_ledger(load_network(name)), [])),
    ]
    nodes = [load_node(name) for name in catalogue.names("hardware")]
    rates = sum(len(node.device.peaks) + len(node.links) + 1 for node in nodes) + len(catalogue.names("networks"))
    assert len(rulings) == rates
    assert {r.verdict for r in rulings} == {"not testable here"}
    for ruling in rulings:
        assert ruling.own is not None and ruling.claim.stated is not None
        assert isclose(ruling.own, ruling.claim.stated, rel_tol=0.05), ruling.claim.name
        assert ("one-way" in ruling.claim.qualifiers) == (ruling.claim.statement.startswith("Line rate"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_verb_lists_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "claims")
    assert code == 0
    counts = re.search(r"article: (\d+) claims: (\d+) hold, (\d+) hold with other inputs, (\d+) refuted", out)
    assert counts is not None
    assert int(counts[1]) == len(ARTICLE.claims)
    assert re.search(r"^a100-sxm-80gb .* 26\.1$", out, flags=re.MULTILINE)


def test_json_and_csv_hold_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    code, out, _ = run(capsys, "claims", "--json", "--csv", str(path), "--hardware", "all")
    assert code == 0
    rows, table = json.loads(out)["claims"], pd.read_csv(path)
    assert Counter(row["origin"] for row in rows) == dict(table["origin"].value_counts())
    by_name = {row["name"]: row for row in rows}
    assert by_name["degree-h100-nvlink"]["right"] == pytest.approx(12.9, abs=0.05)
    assert by_name["h100-sxm bf16 2:4"]["reason"] == "nothing here multiplies 2:4 sparse operands"
    assert by_name["roce-400"]["qualifiers"] == "one-way, per port, peak"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('origin = "vendor"\nsource = "s"\nclaims = [{name = "x"}]', "key 'claims.0.subject' is missing"),
        (
            'origin = "vendor"\nsource = "s"\n[[claims]]\nname = "x"\nsubject = "s"\nstatement = "t"\nprinted = ""',
            "x: has no formula; add one, or say under untestable why there is none",
        ),
        ('origin = "rumour"\nsource = "s"\nclaims = []', "origin = 'rumour'"),
    ],
)
def test_a_bad_ledger_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    code, _, error = run(capsys, "claims", "--claims", str(path))
    assert code == 2
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ("", "measured '' is unknown; choose from flops_per_s, memory_bytes_per_s"),
        ("speed", "measured 'speed' is unknown"),
        ("flops_per_s", "measured 'flops_per_s' has 0 arguments; flops_per_s takes dtype"),
        ("oracle_agreement bf16", "has 1 arguments; oracle_agreement takes none"),
    ],
)
def test_a_measurement_that_means_nothing_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, measured: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    claim = 'name = "c"\nsubject = "s"\nstatement = "t"\nprinted = ""\nstated = 1.0\nformula = "1"\n'
    path.write_text(f'origin = "user"\nsource = "s"\n[[claims]]\n{claim}measured = "{measured}"\n')
    code, _, error = run(capsys, "claims", "--claims", str(path))
    assert code == 2
    assert f"--claims {path}: c: " in error and message in error and error.count("\n") == 1


def test_claims_of_your_own_are_judged_by_their_arithmetic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    claim = '[[claims]]\nname = "{}"\nsubject = "B200"\nstatement = "Twice an H100"\nprinted = ""\nstated = {}\n'
    arithmetic = 'formula = "a / b"\ninputs = {a = "peak b200-sxm bf16", b = "peak h100-sxm bf16"}\n'
    texts = [claim.format(name, stated) + arithmetic for name, stated in (("right", 2.27), ("wrong", 3.0))]
    path.write_text('origin = "user"\nsource = "a talk"\n' + "".join(texts))
    code, out, _ = run(capsys, "claims", "--json", "--claims", str(path))
    verdicts = {row["name"]: row["verdict"] for row in json.loads(out)["claims"] if row["origin"] == "user"}
    assert (code, verdicts) == (0, {"right": "holds", "wrong": "refuted"})
    code, out, _ = run(capsys, "claims", "--claims", str(path))
    assert (code, "claims of a talk" in out) == (0, True)
