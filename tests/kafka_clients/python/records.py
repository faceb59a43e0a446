"""The records that every client writes and every client must read back unchanged."""

COUNT = 12
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def record(number):
    """Key, value and headers of one record; null keys, null values and repeated headers occur."""
    key = None if number % 3 == 0 else f"key-{number}".encode()
    filling = "x" * (50_000 if number == 11 else number * 100)
    # Never both at once: some of the clients refuse to send that.
    value = None if number in (1, 5) else f"value-{number}-{filling}".encode()
    headers = []
    if number % 2 == 1:
        headers = [("trace", f"t-{number}".encode()), ("tag", b"a"), ("tag", b"b")]
    return key, value, headers


def check(topic, number, offset, key, value, headers):
    """Fails unless this is record `number`, at that offset."""
    found = (offset, key, value, [(name, bytes(content)) for name, content in headers or []])
    expected = (number, *record(number))
    if found != expected:
        raise AssertionError(f"{topic}: found {found!r:.300}, expected {expected!r:.300}")
