"""Pages of an etcd's range: so many keys that their values are some 4 MiB."""

import pytest

from server.etcd_pages import FIRST_PAGE_KEYS, PAGE_BYTES, PAGE_KEYS, next_page_keys
from server.v3 import rpc


@pytest.mark.parametrize("value_bytes", [0, 100, 10_000, 300_000, 1_500_000, 20_000_000])
def test_pages_of_values_of_one_size_become_as_large_as_they_may(value_bytes):
    keys = FIRST_PAGE_KEYS
    for _ in range(8):
        page = [rpc.KeyValue(key=b"k", value=bytes(value_bytes))] * keys
        keys = next_page_keys(keys, page)
        assert keys == 1 or keys * value_bytes <= PAGE_BYTES
    assert keys == PAGE_KEYS or keys == 1 or keys * value_bytes * 4 >= PAGE_BYTES // 4


def test_a_page_that_was_short_makes_the_next_one_no_smaller():
    assert next_page_keys(128, [rpc.KeyValue(key=b"k", value=b"v")]) == PAGE_KEYS
