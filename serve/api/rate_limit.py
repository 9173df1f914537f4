"""A token bucket for each client."""

from collections import OrderedDict


class RateLimit:
    """Each client may take `per_s` items a second on average, and `burst` at once.

    A request larger than the burst is let through when the bucket is full, and paid off before the next one. Of more than
    `max_clients` clients, the one not heard of for longest is forgotten.
    """

    def __init__(self, per_s: float, burst: float, max_clients: int) -> None:
        self._per_s, self._burst, self._max_clients = per_s, burst, max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> items left, at that time
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, items: int, now: float) -> float:
        """0 where the items are taken, otherwise the seconds until they could be. `now` in seconds, of a steady clock."""
        left, since = self._buckets.get(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_s)
        lacking = min(items, self._burst) - left
        if lacking <= 0:
            left -= items
        self._buckets[client] = (left, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
            self.forgotten += 1
        return max(0.0, lacking / self._per_s)
