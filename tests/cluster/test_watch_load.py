"""The watchers of the rounds find an event that is lost, doubled, reordered or changed."""

from tests.cluster.watch_load import Event, differences, events_of
from tests.server.v3.watch_world import World, entry_of


def test_what_watchers_see_is_compared_event_by_event():
    events = [Event(main, False, b"k%d" % main, b"v", main, 1) for main in range(2, 8)]
    assert differences(events, events) == ""
    assert "missed" in differences(events[:2] + events[3:], events)
    assert "again" in differences([*events[:3], events[2], *events[3:]], events)
    assert differences([events[1], events[0], *events[2:]], events)
    assert "never was" in differences([events[0]._replace(value=b"w"), *events[1:]], events)
    assert "missing at the end" in differences(events[:-1], events)
    assert "too many" in differences([*events, events[-1]], events)


def test_events_are_those_of_a_range_with_deletes():
    world = World()
    world.write(entry_of([(b"a", b"1"), (b"g1", b"2")]))
    world.write(entry_of([(b"g1", None)]))
    world.close()
    assert events_of(world.all, b"g", b"x") == [Event(2, False, b"g1", b"2", 2, 1), Event(3, True, b"g1", b"", 0, 0)]
    assert len(events_of(world.all, b"\0", b"\0")) == 3
