"""The preset `tiny`: a first try of the whole chain in less than a minute, with a usable basis."""

import torch

from lsd_nb import LatentSpectralDecomposition, cli, load_dataset, load_pretrained
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
