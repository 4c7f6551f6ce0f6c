"""A whole list of one kind on its way into the cache, page by page: no more than a page is held at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from layerwise_operator import parsing
from layerwise_operator.cache import Cache
from layerwise_operator.cluster import Cluster
from layerwise_operator.faults import GONE, ApiFault
from layerwise_operator.kinds import CHILDREN, POD, Kind
from layerwise_operator.manifests import names
from layerwise_operator.observed import Key, Object


@dataclass(slots=True)
class Listing:
    """What a list has told so far; `changed` are the keys of what no event had told."""

    cache: Cache
    kind: Kind
    namespace: str = ""
    present: set[Key] = field(default_factory=set)
    changed: set[Key] = field(default_factory=set)
    version: int = 0

    def take(self, page: Iterable[Object], version: int) -> None:
        """Take in a page of a list of that version."""
        self.version = version
        for raw in page:
            key = parsing.key_of(raw)
            self.present.add(key)
            if self.cache.put(self.kind, raw):
                self.changed.add(key)

    def end(self) -> set[Key]:
        """Forget what the complete list does not hold; returns all keys that changed."""
        self.changed |= self.cache.keep(self.kind, self.present, self.version, self.namespace)
        return self.changed


async def list_into(cache: Cache, cluster: Cluster, kind: Kind, namespace: str) -> set[Key]:
    """Make a list of a kind true in the cache; returns the keys of what no event had told."""
    selector = names.SELECTOR if kind in CHILDREN and kind is not POD else ""
    listing = Listing(cache, kind, namespace)
    while True:
        try:
            async for items, version in cluster.pages(kind, namespace=namespace, selector=selector):
                listing.take(items, version)
        except ApiFault as fault:
            if fault.status != GONE:
                raise
            # Begun again from a new snapshot: what only the old one held may be gone by now.
            listing.present.clear()
        else:
            return listing.end()
