"""A PostgreSQL server for the tests, and what clients do to it: operations with the spans they must make.

The marker in each operation's names is the agent's to keep: it survives where literals do not, so that
every span can be told from every other."""
import collections
import contextlib
import glob
import itertools
import os
import pathlib
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import harness

# What a span says. rows: None where the statement has no result; code: SQLSTATE; batch: statements of one Query.
Told = collections.namedtuple("Told", "name text rows code batch", defaults=(None, None, None))

_ids = itertools.count(1)


def told(span):
    code = span["db.response.status_code"]
    assert span["error.type"] == code and (span.status == 2) == (code is not None), span.attributes
    assert span["olly.incomplete"] is None and span["db.system.name"] == "postgresql", span.attributes
    return Told(span.name, span["db.query.text"], span["db.response.returned_rows"], code,
                span["db.operation.batch.size"])


def aborted(span):
    return span["error.type"] == "pipeline_aborted"


class Operation:
    """SQL and its spans. `rows` and `code` are what the client must find, too."""

    def __init__(self, sql, name, text, rows=None, code=None, batch=None, args=()):
        self.id = next(_ids)
        self.sql, self.args, self.rows, self.code = sql, args, rows, code
        self.told = Told(name, text, rows, code, batch)


def shapes(several=True, argument="%s"):
    """Functions that make an operation out of a marker."""
    out = [
        lambda u: Operation(f"SELECT id, 'x' AS {u} FROM items WHERE id < 5", "SELECT items",
                            f"SELECT id, ? AS {u} FROM items WHERE id < ?", 4),
        lambda u: Operation(f"INSERT INTO logs (u, n) VALUES ('a', 1), ('b''c', -2) RETURNING n AS {u}",
                            "INSERT logs", f"INSERT INTO logs (u, n) VALUES (?) RETURNING n AS {u}", 2),
        lambda u: Operation(f"UPDATE items AS {u} SET n = 1 WHERE {u}.id IN (1000001, 1000002)",
                            "UPDATE items", f"UPDATE items AS {u} SET n = ? WHERE {u}.id IN (?)"),
        lambda u: Operation(f"select * from missing_{u} where card = '4111111111111111'",
                            f"select missing_{u}", f"select * from missing_{u} where card = ?",
                            code="42P01"),
        lambda u: Operation(f"SELECT 1 / (id - 1) AS {u} FROM items WHERE id = 1", "SELECT items",
                            f"SELECT ? / (id - ?) AS {u} FROM items WHERE id = ?", code="22012"),
        lambda u: Operation(f"SELECT repeat('x', 100) AS {u} FROM generate_series(1, 700)", "SELECT",
                            f"SELECT repeat(?, ?) AS {u} FROM generate_series(?, ?)", 700),
        lambda u: Operation(f"SELECT n AS {u} FROM items JOIN logs USING (n) WHERE false",
                            "SELECT items logs",
                            f"SELECT n AS {u} FROM items JOIN logs USING (n) WHERE false", 0),
    ]
    if several:
        out.append(lambda u: Operation(f"SELECT 1 AS {u}; SELECT n FROM items WHERE id <= 2;",
                                       "SELECT; SELECT items",
                                       f"SELECT ? AS {u}; SELECT n FROM items WHERE id <= ?;", 3,
                                       batch=2))
    if argument:
        out.append(lambda u: Operation(f"SELECT {argument}::int + 1 AS {u}", "SELECT",
                                       f"SELECT $1::int + ? AS {u}", 1, args=(5,)))
    return out


def plan(count, several=True, argument="%s", seed=5):
    makers = shapes(several, argument)
    choose = random.Random(seed)
    return [choose.choice(makers)(f"m{next(_ids)}") for _ in range(count)]


def program(name):
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))), None)
    return found or pytest.skip(f"{name} is not installed")


class Server:
    """initdb and postgres in a directory of its own, run by a user who may not do much."""

    def __init__(self):
        user = pwd.getpwnam("nobody")
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="olly-pg-", dir="/tmp"))
        self.home.chmod(0o755)
        os.chown(self.home, user.pw_uid, user.pw_gid)
        self.port = harness.free_port()
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": self.home}
        data = self.home / "data"
        try:
            subprocess.run([program("initdb"), "-D", data, "-A", "trust", "-U", "olly", "--no-sync",
                            "-E", "UTF8", "--locale=C"], check=True, capture_output=True, timeout=120,
                           **as_user)
            self.log = open(self.home / "log", "w")
            self.process = subprocess.Popen(
                [program("postgres"), "-D", data, "-p", str(self.port), "-k", self.home, "-c", "fsync=off",
                 "-c", "listen_addresses=127.0.0.1", "-c", "autovacuum=off", "-c", "max_connections=50",
                 "-c", "wal_level=logical"],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **as_user)
            harness.wait_until(lambda: (self.home / f".s.PGSQL.{self.port}").exists(), "postgres listens", 60)
            self.sql("CREATE DATABASE shop", "postgres")
            self.sql("CREATE TABLE items (id int PRIMARY KEY, n int); CREATE TABLE logs (u text, n int);"
                     "INSERT INTO items SELECT i, i FROM generate_series(1, 1000) i")
        except BaseException:
            self.stop()
            raise
        self.pid = self.process.pid

    def sql(self, text, database="shop"):
        for _ in range(100):
            done = subprocess.run(
                [program("psql"), "-h", self.home, "-p", str(self.port), "-U", "olly", "-qc", text, database],
                capture_output=True, text=True)
            if "starting up" not in done.stderr:
                break
            time.sleep(0.1)
        assert done.returncode == 0, done.stderr

    def stop(self):
        process = getattr(self, "process", None)
        if process and process.poll() is None:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def running():
    if os.geteuid() != 0:
        pytest.skip("the server is started as another user: needs root")
    server = Server()
    try:
        yield server
    finally:
        server.stop()
