"""How long a cabinet waits before it looks at the machine again."""

from __future__ import annotations

from itertools import accumulate, repeat

from supernode_cabinet.app import next_pause


def test_a_cabinet_waits_longer_while_changes_go_on_and_a_second_after_a_single_one() -> None:
    pauses = list(
        accumulate(repeat(True, 6), lambda pause, changing: next_pause(pause, changing=changing), initial=1.0)
    )
    assert pauses == [1.0, 1.5, 2.25, 3.0, 3.0, 3.0, 3.0]
    assert next_pause(3.0, changing=False) == 1.0
