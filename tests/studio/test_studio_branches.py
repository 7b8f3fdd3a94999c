"""The undo tree: held against a plain list of paths, for any order of steps."""

from hypothesis import given
from hypothesis import strategies as st

from penna.studio.branches import Branches

STEPS = st.lists(st.one_of(st.just("undo"), st.just("redo"), st.just("add"), st.integers(0, 20)), max_size=40)


@given(STEPS, st.integers(1, 41))
def test_nothing_but_the_oldest_is_lost_and_redo_leads_back_to_where_undo_came_from(steps, most):
    branches = Branches[int](most)
    dropped = 0  # nodes, the oldest first
    paths: list[tuple[int, ...]] = []  # of every node, by its number
    here: tuple[int, ...] = ()
    for step in steps:
        if step == "add":
            here = (*here, len(paths))
            paths.append(here)
            assert branches.add(len(paths) - 1).number == len(paths) - 1
            dropped = max(0, len(paths) - most)
            paths = [tuple(number for number in path if number >= dropped) for path in paths]
            here = paths[-1]
        elif step == "undo":
            was, here = here, here[:-1]
            branches.undo()
            if was:
                assert branches.redone == was[-1]
        elif step == "redo":
            before = here
            branches.redo()
            here = tuple(node.number for node in branches.path())
            assert here == before or here[:-1] == before
        elif dropped <= step < len(paths):
            here = paths[step]
            branches.go(step)
        assert tuple(node.number for node in branches.path()) == here
        assert branches.value == (here[-1] if here else None)
    rows = list(branches.rows())
    assert sorted(row.node.number for row in rows) == list(range(dropped, len(paths)))
    assert branches.made == len(paths)
    assert all(row.depth == len(paths[row.node.number]) - 1 for row in rows)
    order = [paths[row.node.number] for row in rows]
    assert order == sorted(order)  # depth first, and as they came


def test_versions_follow_the_same_state_and_the_newest_is_the_one_looked_at_last():
    branches = Branches[str]()
    for value in ("a", "b", "c"):
        branches.add(value)
    branches.go(0)
    branches.add("d")  # another version of b
    assert branches.versions(1) == branches.versions(3) == [1, 3]
    assert branches.newest(0) == 3
    branches.go(1)
    assert branches.newest(0) == 2
    branches.undo()
    branches.redo()
    assert branches.current == 1


def test_a_value_that_grows_stays_where_it_is():
    branches = Branches[str]()
    node = branches.add("a")
    branches.undo()
    branches.put(node.number, "ab")
    assert branches.current is None
    assert branches[node.number].value == "ab"
