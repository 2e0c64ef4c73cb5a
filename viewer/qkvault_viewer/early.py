"""What waitress refuses before the application sees it, as the one shape that an error has."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from .failures import Failure
from .security import HEADERS

_NO_BODY: Final = Failure(413, "too_large", "a request has no body here")
_FAILURES: Final = {
    HTTPStatus.BAD_REQUEST: Failure(400, "bad_request", "this is no HTTP request"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _NO_BODY,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Failure(
        431, "too_large", "the address or the headers are too long"
    ),
    HTTPStatus.NOT_IMPLEMENTED: _NO_BODY,  # it came in an encoding that waitress does not know
}
_DEFECT: Final = Failure(500, "internal", "the server ran into a defect; its log has the details")


class EarlyTask(ErrorTask):  # type: ignore[misc]
    """Writes a refusal."""

    def execute(self) -> None:
        """Called by waitress."""
        failure = _FAILURES.get(HTTPStatus(self.request.error.code), _DEFECT)
        body = failure.body()
        self.status = f"{failure.status} {HTTPStatus(failure.status).phrase}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
        ]
        self.response_headers += HEADERS
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose refusals are of the API's shape."""

    error_task_class = EarlyTask
