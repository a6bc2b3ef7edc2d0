"""Drives a MongoDB server with pymongo and keeps a log of what the driver was asked to do.

mongo_client.py PORT GO LOG CONNECTIONS OPERATIONS SEED [CERTIFICATE]

Waits for the file GO, then does OPERATIONS random operations on each of CONNECTIONS connections, each
in a database of its own, and writes what pymongo's command monitor told to LOG: one JSON object a line.
"""
import json
import os
import random
import sys
import threading
import time

import pymongo
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

ON_COLLECTION = {"find", "insert", "update", "delete", "aggregate", "findAndModify", "count", "distinct",
                 "create", "createIndexes", "dropIndexes", "drop", "listIndexes"}
STATEMENTS = {"insert": "documents", "update": "updates", "delete": "deletes"}


class Log(CommandListener):
    def __init__(self):
        self.open = {}
        self.done = []

    def started(self, event):
        name = event.command_name
        first = event.command.get(name)
        collection = event.command.get("collection") if name == "getMore" else None
        if name in ON_COLLECTION and isinstance(first, str):
            collection = first
        statements = len(event.command.get(STATEMENTS.get(name, ""), []))
        self.open[event.request_id] = {
            "operation": name, "database": event.database_name, "collection": collection,
            "batch": statements if statements > 1 else None, "began": time.time_ns()}

    def _end(self, event, code, reply):
        entry = self.open.pop(event.request_id)
        cursor = reply.get("cursor", {})
        rows = cursor.get("firstBatch", cursor.get("nextBatch"))
        entry.update(code=code, rows=None if rows is None else len(rows), ended=time.time_ns())
        self.done.append(entry)

    def succeeded(self, event):
        errors = event.reply.get("writeErrors")
        self._end(event, str(errors[0]["code"]) if errors else None, event.reply)

    def failed(self, event):
        self._end(event, str(event.failure["code"]), {})


def operation(database, rng, n):
    items = database[f"items_{rng.randrange(3)}"]
    some = {"_id": rng.randrange(30), "secret": "hunter2"}
    choice = rng.randrange(12)
    if choice == 0:
        items.insert_one({**some, "_id": n})
    elif choice == 1:
        items.insert_many([{"_id": n * 100 + i, "x": i} for i in range(rng.randrange(1, 8))])
    elif choice == 2:
        items.insert_one(some)
        items.insert_one(some)  # refused
    elif choice == 3:
        items.update_many({"x": {"$gt": 2}}, {"$set": {"y": n}})
    elif choice == 4:
        items.delete_one({"_id": rng.randrange(30)})
    elif choice == 5:
        list(items.find({"secret": {"$ne": "hunter2"}}).batch_size(3).limit(9))  # find, getMore
    elif choice == 6:
        items.count_documents({"x": 1})
    elif choice == 7:
        items.distinct("x")
    elif choice == 8:
        database.command("noSuchCommand")
    elif choice == 9:
        items.find_one_and_update({"_id": n}, {"$inc": {"z": 1}}, upsert=True)
    elif choice == 10:
        database.command("ping")
    else:
        items.bulk_write([pymongo.UpdateOne({"_id": i}, {"$set": {"x": n}}, upsert=True) for i in range(3)]
                         + [pymongo.DeleteOne({"_id": 1})])


def large(database):
    """Messages of which only the first 4 KiB are read, and many of them in one."""
    for n in range(5):
        database.large.insert_many([{"_id": n * 10 + i, "x": "x" * 20000} for i in range(10)])
    assert len(list(database.large.find({}, batch_size=50))) == 50
    database.large.find_one({"padding": "p" * 10000})


def connection(number, port, operations, seed, certificate, log, failures):
    try:
        tls = {"tls": True, "tlsCAFile": certificate} if certificate else {}
        client = pymongo.MongoClient("127.0.0.1", port, maxPoolSize=1, event_listeners=[log],
                                     serverSelectionTimeoutMS=10000, **tls)
        database = client[f"shop_{number}"]
        rng = random.Random(seed * 1000 + number)
        if operations == 0:
            large(database)
        for n in range(operations):
            try:
                operation(database, rng, 1000 + n)
            except PyMongoError as error:
                if getattr(error, "code", None) is None:
                    raise
        client.close()
    except BaseException as error:  # a thread's end must not pass for success
        failures.append(repr(error))
        raise


def main():
    port, go, path, connections, operations, seed, certificate = (*sys.argv[1:], None)[:7]
    while not os.path.exists(go):
        time.sleep(0.02)
    log = Log()
    failures = []
    threads = [threading.Thread(target=connection, args=(
        n, int(port), int(operations), int(seed), certificate, log, failures)) for n in range(int(connections))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures and not log.open, (failures, log.open)
    with open(path + ".part", "w") as out:
        for entry in log.done:
            out.write(json.dumps(entry) + "\n")
    os.rename(path + ".part", path)
    time.sleep(3600)  # the agent knows processes by their pid: it ends with the test


main()
