"""What is moved is all of a batch, plans included."""

from dataclasses import dataclass

import pytest
import torch

from hmar.data.moving import each_tensor, moved, pinned


@dataclass(frozen=True)
class Leaf:
    values: torch.Tensor
    size: int


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    name: str
    missing: torch.Tensor | None = None


TREE = Tree((Leaf(torch.arange(3), 3), Leaf(torch.arange(4), 4)), "tree")


def test_every_tensor_is_changed_and_nothing_else() -> None:
    changed = each_tensor(TREE, lambda tensor: tensor + 1)
    assert [leaf.values.tolist() for leaf in changed.leaves] == [[1, 2, 3], [1, 2, 3, 4]]
    assert [leaf.size for leaf in changed.leaves] == [3, 4]
    assert (changed.name, changed.missing) == ("tree", None)
    assert TREE.leaves[0].values.tolist() == [0, 1, 2]


def test_where_it_is_already_nothing_is_copied() -> None:
    assert moved(TREE, torch.device("cpu")).leaves[0].values is TREE.leaves[0].values


@pytest.mark.gpu
def test_to_the_gpu_and_back_by_way_of_pinned_memory() -> None:
    ready = pinned(TREE)
    assert all(leaf.values.is_pinned() for leaf in ready.leaves)
    there = moved(ready, torch.device("cuda"))
    assert all(leaf.values.is_cuda for leaf in there.leaves)
    assert moved(there, torch.device("cpu")).leaves[1].values.tolist() == [0, 1, 2, 3]
