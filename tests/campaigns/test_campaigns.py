"""The short run of the campaigns: hundreds of draws of one seed; `make fuzz` is the long one."""

import campaign
import campaign_arguments
import pytest

# per loader, callable and check
DRAWS = {"files": 20, "arguments": 3, "numerics": 60, "references": 10}


@pytest.mark.parametrize("name", DRAWS)
def test_no_promise_is_broken(name):
    found = campaign.run(name, DRAWS[name], seed=1)
    assert found["draws"] >= 240 and not found["broken"], found["broken"]


def test_a_disturbed_collection_comes_to_the_same_end():
    "Of means, by two processes; trainings are killed in `test_training.py`."
    found = campaign.run("kills", 1, seed=1, names=("means, two processes",))
    assert found["outcomes"] == {"right": 1}, found["broken"]


def test_counts_of_two_runs_add():
    a = {"draws": 2, "by": {"x": {"right": 2}}, "text": "old"}
    b = {"draws": 3, "by": {"x": {"right": 1, "stuck": 1}, "y": {}}, "text": "new"}
    both = {"x": {"right": 3, "stuck": 1}, "y": {}}
    assert campaign.summed(a, b) == {"draws": 5, "by": both, "text": "new"}


def test_a_mended_name_is_drawn_again():
    by_name = {"x": {"nan": 1, "right": 4}, "y": {"right": 2}}
    counts = {"draws": 7, "outcomes": {"nan": 1, "right": 6}, "by_name": by_name}
    counts["broken"] = {"x: nan": {"": "text"}}
    left = campaign.without(counts, ("x",))
    assert left == {
        "draws": 2,
        "outcomes": {"right": 2},
        "by_name": {"y": {"right": 2}},
        "broken": {},
    }
    assert campaign.without(counts, ()) == counts


def test_public_callables_take_part():
    "What is new in a module should get an example, or be named among what is tested elsewhere."
    missing, there = campaign_arguments.WITHOUT_EXAMPLE, campaign_arguments.CALLS
    assert len(missing) < 0.2 * len(there), missing


@pytest.mark.parametrize("name", campaign_arguments.CALLS)
def test_the_examples_are_right(name, tmp_path):
    found = campaign_arguments.call(name, campaign_arguments.examples(tmp_path, name)[name])
    assert campaign_arguments.finite(found)
