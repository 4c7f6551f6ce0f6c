"""The path of a write: decode, default, check, record who owns what, store.

Everything here is synchronous, so on the server's one event loop a write is atomic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerwise_sandbox.api import bodies, deletion, errors, metadata, preconditions
from layerwise_sandbox.api.resource import Context
from layerwise_sandbox.schema import ownership
from layerwise_sandbox.schema.plain import copied
from layerwise_sandbox.store.errors import AlreadyExistsError
from layerwise_sandbox.store.revision import Key, Revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerwise_sandbox.api.bodies import WriteOptions
    from layerwise_sandbox.api.deletion import DeleteOptions
    from layerwise_sandbox.api.resource import Resource
    from layerwise_sandbox.store.memory import Store

JsonObject = dict[str, Any]
GENERATED_NAME_TRIES = 8


class Writer:
    """All changes of the store that clients ask for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._created: Callable[[Resource, Revision], None] | None = None

    def on_created(self, react: Callable[[Resource, Revision], None]) -> None:
        """Have every new object told, in the same step that stores it."""
        self._created = react

    def create_applied(
        self, resource: Resource, namespace: str, name: str, config: JsonObject, options: WriteOptions
    ) -> Revision:
        """Store a new object that somebody applies.

        A version in the configuration is a condition on the object that is there: without one, nothing fails.
        """
        named = {**config, "metadata": {**(config.get("metadata") or {}), "name": name}}
        named["metadata"].pop("resourceVersion", None)
        if (named["metadata"]).get("uid"):
            raise errors.conflict(
                resource.group, resource.plural, name,
                f"uid mismatch: the provided object specified uid {named['metadata']['uid']}, and no "
                "existing object was found",
            )  # fmt: skip
        return self.create(resource, namespace, named, options, applied=True)

    def apply(self, resource: Resource, old: Revision, config: JsonObject, options: WriteOptions) -> Revision:
        """Merge a configuration into an object; ConflictError where others own what would change."""
        decoded = bodies.decode_config(resource, old.key.namespace, config, options)
        owner = self._owner(resource, options, self._context(old.key.namespace, options), ownership.APPLY)
        meta = decoded.setdefault("metadata", {})
        version = meta.pop("resourceVersion", "")
        for name in ("creationTimestamp", "generation"):
            meta.pop(name, None)
        applied = ownership.apply(old.value, decoded, resource.shape, owner, force=options.force)
        value = bodies.decode(resource, copied(applied.value), options)
        value["metadata"]["managedFields"] = ownership.entries_of(applied.claims)
        value["metadata"]["resourceVersion"] = version
        return self.replace(resource, old, value, options, applied=True)

    def create(
        self, resource: Resource, namespace: str, body: Any, options: WriteOptions, *, applied: bool = False
    ) -> Revision:
        """Store a new object."""
        preconditions.require_namespace(self._store, resource, namespace, body)
        value = (
            bodies.decode_config(resource, namespace, body, options)
            if applied
            else bodies.decode(resource, body, options)
        )
        context = self._context(namespace, options)
        meta = value.setdefault("metadata", {})
        if meta.get("resourceVersion"):
            raise errors.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        preconditions.place(resource, meta, namespace)
        claimed = copied(value) if applied else None
        generated = not meta.get("name") and meta.get("generateName")
        metadata.new_identity(meta, context.now, generation=resource.behaviour.has_generation)
        if resource.has_status and resource.behaviour.resets_status:
            value.pop("status", None)
        for attempt in range(GENERATED_NAME_TRIES):
            if generated:
                meta["name"] = metadata.generated_name(meta["generateName"])
            if attempt == 0:
                self._prepare_new(resource, value, context, options, claimed)
            key = Key(namespace if resource.namespaced else "", meta["name"])
            if options.dry_run and self._store.get(resource.collection, key) is None:
                return Revision(key, value, 0)
            try:
                revision = self._store.create(resource.collection, key, value)
            except AlreadyExistsError:
                if generated:
                    continue
                break
            if self._created is not None:
                self._created(resource, revision)
            return revision
        raise errors.already_exists(resource.group, resource.plural, meta["name"])

    def _prepare_new(
        self,
        resource: Resource,
        value: JsonObject,
        context: Context,
        options: WriteOptions,
        claimed: JsonObject | None,
    ) -> None:
        behaviour = resource.behaviour
        behaviour.default(value)
        behaviour.prepare_create(value, context)
        meta = value["metadata"]
        problems = metadata.validate(meta, resource) + behaviour.validate_new(value)
        if problems:
            raise errors.invalid(resource.group, resource.kind, meta.get("name", ""), problems)
        if claimed is None:
            meta.pop("managedFields", None)
            owners = ownership.after_update(
                {}, value, resource.shape, self._owner(resource, options, context)
            )
        else:
            owner = self._owner(resource, options, context, ownership.APPLY)
            owners = ownership.entries_of(
                ownership.apply({}, claimed, resource.shape, owner, force=False).claims
            )
        if owners:
            meta["managedFields"] = owners

    def replace(
        self,
        resource: Resource,
        old: Revision,
        value: JsonObject,
        options: WriteOptions,
        *,
        applied: bool = False,
    ) -> Revision:
        """Store a changed object: `value` is decoded and this call's own."""
        context = self._context(old.key.namespace, options)
        behaviour = resource.behaviour
        meta = value.setdefault("metadata", {})
        preconditions.check_change(resource, old, meta)
        metadata.keep_identity(meta, old.value["metadata"])
        meta["name"] = old.key.name
        if old.key.namespace:
            meta["namespace"] = old.key.namespace
        if options.subresource == "status":
            behaviour.prepare_status(value, old.value)
            behaviour.default(value)
        elif not options.subresource:
            if resource.has_status and behaviour.resets_status:
                value.pop("status", None)
                if "status" in old.value:
                    value["status"] = old.value["status"]
            behaviour.default(value)
            behaviour.prepare_update(value, old.value, context)
        self._raise_generation(resource, value, old.value)
        self._validate_change(resource, value, old, options.subresource)
        if not applied:
            self._own_update(resource, old, value, options, context)
        return self._commit(resource, old, value, context)

    def _own_update(
        self, resource: Resource, old: Revision, value: JsonObject, options: WriteOptions, context: Context
    ) -> None:
        owners = ownership.after_update(
            old.value, value, resource.shape, self._owner(resource, options, context)
        )
        value["metadata"].pop("managedFields", None)
        if owners:
            value["metadata"]["managedFields"] = owners

    @staticmethod
    def _validate_change(resource: Resource, value: JsonObject, old: Revision, subresource: str) -> None:
        behaviour = resource.behaviour
        problems = metadata.validate(value["metadata"], resource)
        problems += metadata.validate_update(value["metadata"], old.value["metadata"])
        if subresource == "status":
            problems += behaviour.validate_status(value, old.value)
        else:
            problems += behaviour.validate(value) + behaviour.validate_update(value, old.value)
        if problems:
            raise errors.invalid(resource.group, resource.kind, old.key.name, problems)

    def _commit(self, resource: Resource, old: Revision, value: JsonObject, context: Context) -> Revision:
        if deletion.is_over(resource.behaviour, value):
            if context.dry_run:
                return Revision(old.key, value, old.version)
            self._store.delete(resource.collection, old.key)
            return Revision(old.key, value, self._store.version)
        value["metadata"]["resourceVersion"] = str(old.version)
        if ownership.same_content(value, old.value):
            return old
        if context.dry_run:
            return Revision(old.key, value, old.version)
        return self._store.update(resource.collection, old.key, value)

    def delete(
        self, resource: Resource, old: Revision, options: DeleteOptions, user: str
    ) -> tuple[Revision, bool]:
        """Begin or complete an object's end; true where it is gone."""
        preconditions.check_deletion(resource, old, options)
        context = Context(self._store, user, old.key.namespace, metadata.timestamp(), options.dry_run)
        waiting = deletion.marked(resource.behaviour, old.value, options, context.now)
        if waiting is None:
            if options.dry_run:
                return old, True
            last = self._store.delete(resource.collection, old.key)
            return last, True
        if options.dry_run:
            return Revision(old.key, waiting, old.version), False
        if waiting == old.value:
            return old, False
        return self._store.update(resource.collection, old.key, waiting), False

    @staticmethod
    def _owner(
        resource: Resource, options: WriteOptions, context: Context, operation: str = ownership.UPDATE
    ) -> ownership.Owner:
        return ownership.Owner(
            options.manager, resource.api_version, options.subresource, context.now, operation
        )

    def _context(self, namespace: str, options: WriteOptions) -> Context:
        return Context(self._store, options.user, namespace, metadata.timestamp(), options.dry_run)

    @staticmethod
    def _raise_generation(resource: Resource, value: JsonObject, old: JsonObject) -> None:
        behaviour = resource.behaviour
        if behaviour.has_generation and behaviour.spec_of(value) != behaviour.spec_of(old):
            value["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
