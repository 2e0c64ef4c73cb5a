"""Object stores: keys that stand where paths stand, and the few kinds of request made of them.

A vault on S3 or Google Cloud Storage has the same files under the same names as one on a disk.
What a disk gives by renaming, an object store gives by conditions: an object is put only if none
stands there, or only over the very one that was seen. Each is put whole, in one request.

Credentials, region and endpoint come from the environment, as for every other client
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``...). Requests that
fail by the network or the server's 5xx are tried again with growing pauses.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .cache import Cache
from .errors import InputError, ResourceError, VaultError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "gs")
KEPT_BYTES: Final = 64 << 20
"""Most bytes of object ranges that are kept in memory, per open vault."""

_KEPT_RANGES: Final = 4096
_LARGEST_KEPT: Final = 8 << 20
_TRIES: Final = 8
_RETRY: Final = timedelta(minutes=3)
_CLIENT: Final = {"timeout": "120s", "connect_timeout": "20s"}


class ObjectInfo(NamedTuple):
    """What a store says of one object.

    Attributes:
        st_size: bytes.
        e_tag: changes with every write; None where the store has none.
        st_mtime: when it was put, in seconds since 1970 by the store's clock.
    """

    st_size: int
    e_tag: str | None
    st_mtime: float


def _info(found: Any) -> ObjectInfo:
    return ObjectInfo(found["size"], found["e_tag"], found["last_modified"].timestamp())


class Changed(Exception):
    """An object was not put: what stands there is not what the condition says."""


class Bucket:
    """One bucket, and the ranges of its objects that were read last. Threads may share it.

    Attributes:
        url: such as ``s3://corpora``.
        requests: how many were made, retries not counted.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0
        self._ranges: Cache[tuple[str, int, int], bytes] = Cache(_KEPT_RANGES, KEPT_BYTES)
        self._lock = threading.Lock()
        self._opened: ObjectStore | None = None

    def read(self, key: str, limit: int) -> bytes | None:
        """A whole object of at most ``limit`` bytes; None if there is none.

        Raises:
            VaultError: it is larger, or the store does not answer.
        """
        with self._asking(key) as store:
            try:
                answer = store.get(key)
            except FileNotFoundError:
                return None
            size = answer.meta["size"]
            if size > limit:
                raise VaultError(f"{self.url}/{key} has {size} bytes; at most {limit} are read")
            return bytes(answer.bytes())

    def read_range(self, key: str, size: int, offset: int) -> bytes:
        """Exactly ``size`` bytes at ``offset``.

        Raises:
            VaultError: the object is missing or shorter, or the store does not answer.
        """
        place = (key, offset, size)
        kept = self._ranges.get(place)
        if kept is not None:
            return kept
        with self._asking(key) as store:
            try:
                data = bytes(store.get_range(key, start=offset, length=size))
            except FileNotFoundError:
                raise VaultError(f"{self.url}/{key} is missing") from None
        if len(data) != size:
            raise VaultError(f"{self.url}/{key} ends early: it has fewer bytes than it should")
        return self._ranges.put(place, data, size) if size <= _LARGEST_KEPT else data

    def look(self, key: str) -> ObjectInfo | None:
        """What the store says of an object; None if there is none.

        Raises:
            VaultError: the store does not answer.
        """
        with self._asking(key) as store:
            try:
                found = store.head(key)
            except FileNotFoundError:
                return None
        return _info(found)

    def objects(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """Every object below a prefix, by key.

        Raises:
            VaultError: the store does not answer.
        """
        with self._asking(prefix) as store:
            for page in store.list(f"{prefix}/", chunk_size=1000):
                yield from ((found["path"], _info(found)) for found in page)

    def put(self, key: str, data: bytes | Path, over: str | None) -> str | None:
        """Put a whole object in one request; returns its tag.

        Args:
            data: the bytes, or the local file that has them.
            over: tag of the object that it may replace; None if there must be none.

        Raises:
            Changed: another object stands there.
            ResourceError: the store refuses.
        """
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        mode: Any = "create" if over is None else {"e_tag": over}
        self._count()
        try:
            done = self._store().put(key, data, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError, NotFoundError):
            raise Changed(key) from None
        except Exception as error:  # whatever client and store come up with
            raise ResourceError(
                f"cannot write {self.url}/{key}: {_tell(error)};"
                " see to it and run the same command again to go on"
            ) from error
        return done["e_tag"]

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, as far as the store lets it."""
        names = list(keys)
        if not names:
            return
        self._count()
        with suppress(Exception):  # leftovers hurt nobody
            self._store().delete(names)

    @contextmanager
    def _asking(self, key: str) -> Iterator[ObjectStore]:
        store = self._store()
        self._count()
        try:
            yield store
        except VaultError:
            raise
        except Exception as error:  # whatever client and store come up with
            cause = OSError(errno.EIO, _tell(error))
            raise VaultError(f"cannot read {self.url}/{key}: {_tell(error)}") from cause

    def _count(self) -> None:
        with self._lock:
            self.requests += 1

    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = _connect(self.url)
        return self._opened


def _connect(url: str) -> ObjectStore:
    try:
        from obstore.store import GCSStore, S3Store
    except ModuleNotFoundError:
        raise ResourceError(
            f"{url} is on an object store, which needs obstore, which is not installed:"
            " pip install 'qkvault[s3]'"
        ) from None
    scheme, _, bucket = url.partition("://")
    client: Any = {**_CLIENT, "allow_http": _endpoint().startswith("http://")}
    retry: Any = {"max_retries": _TRIES, "retry_timeout": _RETRY}
    kind: Any = {"s3": S3Store, "gs": GCSStore}[scheme]
    try:
        store: ObjectStore = kind(bucket, client_options=client, retry_config=retry)
    except Exception as error:
        raise ResourceError(f"{url} cannot be reached: {_tell(error)}") from error
    return store


def _endpoint() -> str:
    """The endpoint that the environment names, if it is not the provider's own."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _tell(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__


class RemotePath:
    """A key of a bucket, with as much of :class:`pathlib.Path`'s face as vaults need."""

    __slots__ = ("bucket", "key")

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key

    def __truediv__(self, part: str) -> RemotePath:
        return RemotePath(self.bucket, f"{self.key}/{part}" if part else self.key)

    def __str__(self) -> str:
        return f"{self.bucket.url}/{self.key}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The key without its last part."""
        return RemotePath(self.bucket, self.key.rpartition("/")[0])

    def absolute(self) -> RemotePath:
        """Itself: there is no current folder on an object store."""
        return self

    resolve = absolute

    def __reduce__(self) -> tuple[Callable[[str], Place], tuple[str]]:
        return locate, (str(self),)


class RemoteFile:
    """An object open for reading.

    Attributes:
        path: which.
        size: its bytes, as the store says or as whoever opened it knows.
    """

    __slots__ = ("path", "size")

    def __init__(self, path: RemotePath, size: int) -> None:
        self.path = path
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes at ``offset``.

        Raises:
            VaultError: the object is missing or shorter, or the store does not answer.
        """
        return self.path.bucket.read_range(self.path.key, size, offset)

    def close(self) -> None:
        """Nothing is held."""


Place = Path | RemotePath
"""Where a vault or one of its files stands."""


def locate(where: str | Place) -> Place:
    """The place that a user names: a path, or a URL such as ``s3://bucket/mrpc.vault``.

    Raises:
        InputError: a URL without bucket or key, or of another scheme.
    """
    if isinstance(where, RemotePath | Path):
        return where
    scheme, mark, rest = os.fspath(where).partition("://")
    if not mark:
        return Path(where)
    bucket, _, key = rest.partition("/")
    key = key.strip("/")
    if scheme not in SCHEMES or not bucket or not key:
        raise InputError(
            f"{where} is no vault's place: give a folder, or s3://BUCKET/NAME or gs://BUCKET/NAME"
        )
    return RemotePath(Bucket(f"{scheme}://{bucket}"), key)
