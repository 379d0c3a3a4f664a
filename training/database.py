"""Labelled texts by a query, through SQLAlchemy; needs the `sql` extra and the database's own driver."""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nlp_app.errors import DataError
from nlp_app.rows import Row, Value, place_of
from nlp_app.tables import check_row

ROWS_AT_ONCE = 1000
POSTGRES = ("postgres", "postgresql")
DRIVERS = ("psycopg", "psycopg2")
SECRET = re.compile(r"((?:^|[?&;])[^=&;?]*(?:pass|pwd|secret|token|key)[^=&;?]*=)[^&;]*", re.I)
"""In the query part of an address."""


class Query:
    """The rows of a query."""

    marked = False

    def __init__(self, address: str, query: str) -> None:
        self.name = hide_password(address)
        self._address, self._query = address, query

    def columns(self) -> list[str]:
        """As the query names them."""
        with self._result() as result:
            return [*map(str, result.keys())]

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:
        """The values of columns, as text; an array's too, and 1000 rows at once in memory."""
        with self._result() as result:
            names = [*map(str, result.keys())]
            places = [place_of(Path(self.name), names, column) for column in columns]
            for number, values in enumerate(result, start=1):
                row = Row(number, tuple(_text(values[place], self.place(number), names[place]) for place in places))
                check_row(row, columns, lists, Path(self.name))
                yield row

    def place(self, line: int) -> str:
        """The number of the row."""
        return f"{self.name}:{line}"

    def notes(self) -> list[str]:
        """None: a query says what it reads."""
        return []

    def files(self) -> list[Path]:
        """None."""
        return []

    @contextmanager
    def _result(self) -> Iterator[Any]:
        """What the query gives, row by row."""
        sqlalchemy = _library(self.name)
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

        try:
            url = _url(sqlalchemy, _with_driver(self._address))
            _check_file(url, self.name)
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
            with engine.connect() as connection:
                streamed = connection.execution_options(stream_results=True, max_row_buffer=ROWS_AT_ONCE)
                result = streamed.execute(sqlalchemy.text(self._query))
                try:
                    if not result.returns_rows:
                        raise DataError(f"{self.name}: the query gives no rows: write SELECT …")
                    yield result
                finally:
                    result.close()
        except (ImportError, NoSuchModuleError) as error:
            raise DataError(f"{self.name}: the database's driver is missing ({error}): install it") from None
        except ArgumentError as error:
            raise DataError(f"{self.name} is no address of a database ({_first(error)})") from None
        except SQLAlchemyError as error:
            raise DataError(f"{self.name} refuses: {_first(getattr(error, 'orig', None) or error)}") from None


def _url(sqlalchemy: Any, address: str) -> Any:
    from sqlalchemy.exc import ArgumentError

    try:
        return sqlalchemy.make_url(address)
    except ValueError as error:  # of a port
        raise ArgumentError(str(error)) from None


def _check_file(url: Any, name: str) -> None:
    """Raise a DataError where SQLite would make an empty database of a file that is not there."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    if file and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise DataError(f"{name}: there is no file {file}: correct the address, sqlite:////… of a whole path")


def hide_password(address: object) -> str:
    """An address for people and files."""
    before, sign, after = str(address).partition("://")
    who, at, where = after.rpartition("@")
    user, colon, _ = who.partition(":")
    hidden = SECRET.sub(r"\1***", where)
    return f"{before}{sign}{user}{':***' if colon else ''}{at}{hidden}"


def _with_driver(address: str) -> str:
    """PostgreSQL's, by the driver that is there: SQLAlchemy itself thinks of one alone."""
    kind, sign, rest = address.partition("://")
    if kind not in POSTGRES:
        return address
    there = next((one for one in DRIVERS if importlib.util.find_spec(one)), DRIVERS[0])
    return f"postgresql+{there}{sign}{rest}"


def _library(name: str) -> Any:
    try:
        import sqlalchemy
        import sqlalchemy.pool
    except ImportError:
        raise DataError(f"{name}: reading a database needs SQLAlchemy: pip install 'nlp_app[sql]'") from None
    return sqlalchemy


def _text(value: Any, place: str, column: str) -> Value:
    """As a file would have it: whole numbers as they are written, true and false, lists of texts."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return tuple(str(_text(one, place, column) or "") for one in value)
    if isinstance(value, bytes | memoryview | dict):
        raise DataError(f"{place}: {column!r} is of type {type(value).__name__}, but must be a text")
    return str(value)


def _first(error: object) -> str:
    """The first line that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
