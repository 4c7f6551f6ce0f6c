"""Log lines: one line each, as text or as JSON, with the deployment's key where there is one."""

import json
import logging
import sys
from datetime import UTC, datetime

from layerwise_operator.lines import on_one_line


class OneLine(logging.Formatter):
    """`time level logger key message`; an exception becomes its type and text, on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of text."""
        fields = fields_of(record)
        key = f" {fields['key']}" if "key" in fields else ""
        error = f" error={fields['error']!r}" if "error" in fields else ""
        return f"{fields['time']} {fields['level']:<7} {fields['logger']}{key} {fields['message']}{error}"


class Json(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        return json.dumps(fields_of(record))


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What a log line carries."""
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": on_one_line(record.getMessage()),
    }
    key = getattr(record, "key", None)
    if key is not None:
        fields["key"] = str(key)
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = f"{type(error).__name__}: {on_one_line(str(error))}{_where(error)}"
    return fields


def configure(level: str, form: str) -> None:
    """Send everything to stderr in one form; the framework's own chatter only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kopf", "aiohttp", "asyncio", "kubernetes"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _where(error: BaseException) -> str:
    """File and line at which an error was raised, since there is no traceback to tell."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"
