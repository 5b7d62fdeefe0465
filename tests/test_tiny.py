"""The preset `tiny`: a first try of the whole chain in less than a minute, with a usable basis."""

from dataclasses import replace

import pytest
import torch

from lsd_nb import LatentSpectralDecomposition, cli, latents, load_dataset, load_pretrained
from lsd_nb.latents import labelled_means


def test_a_first_try_gives_a_labelled_basis(tiny):
    nets = load_pretrained("mnist", "tiny", "cpu")
    z = torch.randn(4000, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = nets.classifier(nets.generator(z)).argmax(1).bincount(minlength=10)
    assert found.min() >= 80, found  # each label in 2 % of the samples or more
    means = labelled_means(cli._means_config("mnist", "tiny"), "cpu", False)
    assert (means.counts == means.per_set).all()
    lsd = LatentSpectralDecomposition(*nets, progress=False).fit_means(means)
    test = load_dataset("mnist", False).test
    right = torch.as_tensor(lsd.predict(test.images[:1000])) == test.labels[:1000]
    assert right.float().mean() > 0.65  # chance is .1


@pytest.mark.parametrize("stored", [True, False])
def test_another_process_stores_the_same_means_and_clears_the_folder(tiny, monkeypatch, stored):
    "Between the slower one's last part and its lock: the lock's folder is gone."
    config = replace(cli._means_config("mnist", "tiny"), per_set=20, seed=7 + stored)
    config, collect = config.settled("cpu"), latents.collect_means

    class Gone:
        def __init__(self, path):
            raise FileNotFoundError(path)

    with monkeypatch.context() as patched:

        def meanwhile(config, folder, *rest):
            paths = collect(config, folder, *rest)
            if stored:
                latents._store_once(config, folder, paths, "cpu", 0.0, False)
            patched.setattr(latents, "FileLock", Gone)
            return paths

        patched.setattr(latents, "collect_means", meanwhile)
        if stored:
            means = labelled_means(config, "cpu", False)
        else:
            with pytest.raises(FileNotFoundError):  # nobody has them: what happened is said
                labelled_means(config, "cpu", False)
    if stored:
        assert (means.means == labelled_means(config, "cpu", False).means).all()
