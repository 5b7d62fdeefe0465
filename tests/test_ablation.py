"""The ablation: what its configurations change, and what a row of it says."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from lsd_nb.basis import LatentBasis
from lsd_nb.core import LSDError
from lsd_nb.data import Split
from lsd_nb.encoder import EncoderConfig, chains
from lsd_nb.latents import LabelledMeans
from lsd_nb.studies.ablation import (
    FAITHFUL,
    ablation_bases,
    ablation_configs,
    ablation_row,
)
from lsd_nb.training import load_or_train


def test_each_change_by_itself_touches_its_own_fields_alone():
    configs = ablation_configs(seed=3)
    paper = asdict(configs["the paper's"])
    assert all(paper[k] == v for k, v in FAITHFUL.items()) and paper["seed"] == 3
    fields = {"weights": {"hinge_weight", "spread_weight", "heads"}, "overlap": {"overlap_weight"}}
    fields |= {"reading": {"reading_weight"}, "generator": {"gan"}}
    for name, own in fields.items():
        mine = asdict(configs[name])
        assert {k for k in mine if mine[k] != paper[k]} == own


def test_in_order_the_changes_add_up_to_the_bundled_encoders():
    configs = ablation_configs()
    in_order = [k for k in configs if "," in k]
    assert in_order[-1] == "weights, overlap, reading, generator"
    assert configs[in_order[-1]] == EncoderConfig.for_dataset("mnist", "convincing")
    assert configs[in_order[0]] == EncoderConfig.for_dataset("mnist", "small")


def test_bases_begin_as_published_and_end_as_the_default():
    draws, truth = torch.Generator().manual_seed(1), torch.arange(900) % 3
    z = 2 * torch.eye(3, 6)[truth] + 4 + 0.2 * torch.randn(900, 6, generator=draws)
    means = LabelledMeans.empty(3, 6, 150, 2)
    means.add(z, truth)
    bases = list(ablation_bases(means).values())
    first = LatentBasis.from_means(means.means, means.labels, means.sets, method="gram_schmidt")
    directions = [torch.as_tensor(b.vectors_) for b in (bases[0], first)]
    cosines = torch.nn.functional.cosine_similarity(*directions)
    assert torch.allclose(cosines, torch.ones_like(cosines), atol=1e-6)
    assert bases[0].reading == "absolute" and not bases[0].center
    assert bases[-1].get_params() == LatentBasis().get_params()
    assert bases[-1].score(z, truth) == 1 > bases[0].score(z, truth)


def test_a_row_of_tiny_networks(tiny):
    config = EncoderConfig.for_dataset("mnist", "tiny")
    draws = torch.Generator().manual_seed(0)
    images, labels = 2 * torch.rand(30, 1, 28, 28, generator=draws) - 1, torch.arange(30) % 10

    def judge(x):
        return 20 * torch.eye(10).repeat(3, 1)[: len(x)]

    data = SimpleNamespace(train=Split(images, labels), test=Split(images, labels))
    row = ablation_row(config, judge, data, per_set=20, progress=False)
    assert set(row["decoded"]["judge"].values()) == {100}  # it says so, whatever it sees
    g, e = (load_or_train(part, "cpu", train=False) for part in (config.gan, config))
    with torch.inference_mode():
        again = (g(e(images)[0]) - images).square().mean().item()
    assert set(row["stretched"]) == {"error", "variation"} < set(row)
    assert row["error"] == pytest.approx(again, rel=1e-3) and row["stretched"]["error"] != again
    assert row["lda"]["sampled"] >= 50  # codes that it has been taught
    for basis in row["bases"].values():
        assert basis["ranks"]["lsd_top1"] == basis["sampled"] <= basis["ranks"]["lsd_top4"]
        assert basis["pure"]["judge"] == 20  # it names them in order, and surely
        assert basis["sampled"] == pytest.approx(100 * round(basis["sampled"] * 0.3) / 30)


def test_chains_differ_in_their_seeds_alone():
    found = chains("mnist", "tiny", generators=2, encoders=3)
    assert list(found) == [(g, e) for g in range(2) for e in range(3)]
    assert all((c.gan.seed, c.seed) == at for at, c in found.items())
    assert len({c.key for c in found.values()}) == 6
    assert found[0, 0] == EncoderConfig.for_dataset("mnist", "tiny")


def test_an_untrained_encoder_is_named():
    config = EncoderConfig.for_dataset("mnist", "small", seed=987654)
    data = SimpleNamespace(test=Split(torch.zeros(2, 1, 28, 28), torch.arange(2)))
    with pytest.raises(LSDError, match="there is no trained encoder"):
        ablation_row(config, lambda x: x, data, progress=False)
